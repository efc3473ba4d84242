package saga

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// MaxProgressBytes is the size of the largest progress message, serialized.
const MaxProgressBytes = 64 << 10

// SetProgress records how far the saga has come, in a message of any type. GetSaga and WatchSaga return the latest one.
// It is recorded together with the saga's next step or wait, so it costs no extra write; if the code sets it several
// times before that, the last one counts. Calls may be added and removed freely while sagas run. A message larger than
// [MaxProgressBytes] suspends the saga.
func SetProgress(ctx Context, progress proto.Message) {
	t := enter(ctx)
	defer t.leave()
	if t.machine.Replaying() {
		return
	}
	data, err := deterministic.Marshal(progress)
	if err != nil {
		t.machine.Abort(fmt.Sprintf("serializing the progress: %v", err))
	}
	if len(data) > MaxProgressBytes {
		t.machine.Abort(fmt.Sprintf("the progress has %d bytes; at most %d are allowed", len(data), MaxProgressBytes))
	}
	t.machine.SetProgress(&anypb.Any{
		TypeUrl: "type.googleapis.com/" + string(progress.ProtoReflect().Descriptor().FullName()), Value: data,
	})
}

// maxVersion is the highest version of a change.
const maxVersion = 1 << 30

// Version lets code change while sagas run. It returns the version of the named change that this saga uses: latest if
// the saga gets here for the first time, and the same version from then on. It returns 0 if the saga passed this point
// before the change was made.
//
//	if saga.Version(ctx, "ask the register", 1) == 0 {
//		// the old code
//	} else {
//		// the new code
//	}
//
// Delete the old code once no open saga uses it; the orchestrator's verify command lists the sagas that do. Versions
// count from 1; a latest version below 1 suspends the saga. So does a journal with a later version than latest, which
// newer code has written.
func Version(ctx Context, change string, latest int) int {
	t := enter(ctx)
	defer t.leave()
	if change == "" || !utf8.ValidString(change) || latest < 1 || latest > maxVersion {
		const message = "saga.Version(%q, %d): a change needs a name in UTF-8 and a version from 1 to %d"
		t.machine.Abort(fmt.Sprintf(message, change, latest, maxVersion))
	}
	return int(t.machine.Version(change, int32(latest)))
}

// Restart returns an error that ends the current round of the saga and starts the next one, with a new request of the
// saga's own type. It is for sagas that loop for years: each round starts with an empty journal.
//
//	return nil, saga.Restart(ctx, next)
//
// The saga's own function must return the error. Within [Try] it would compensate the scope.
//
// The saga keeps its name, labels, trace and progress, and the events that it took stay taken; its deadline starts
// again. The steps of earlier rounds can no longer be compensated. A saga that its parent could compensate is suspended
// instead, and so is one with a request of another type.
func Restart(ctx Context, request proto.Message) error {
	t, err := tryEnter(ctx)
	if err != nil {
		return err
	}
	defer t.leave()
	if isNil(request) {
		t.machine.Abort("saga.Restart got nil; pass a request, even if it is empty")
	}
	if name := request.ProtoReflect().Descriptor().FullName(); name != t.input {
		t.machine.Abort(fmt.Sprintf("saga.Restart got a request of type %s; the saga takes %s", name, t.input))
	}
	data, err := deterministic.Marshal(request)
	if err != nil {
		t.machine.Abort(fmt.Sprintf("serializing the request of the restart: %v", err))
	}
	return &restartError{request: data}
}

// restartError restarts a saga when its function returns it.
type restartError struct{ request []byte }

// Error describes the error for code that logs it.
func (*restartError) Error() string { return "the saga restarts" }
