package saga

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// MaxProgressBytes is how long a progress may be, serialized.
const MaxProgressBytes = 64 << 10

// SetProgress says how far the saga has come, in a message of its own. GetSaga and WatchSaga show the last one. It is recorded with
// the turn that the code runs in and costs no write of its own; of several within a turn the last one counts. It may come and go between
// versions of the code. One that is longer than MaxProgressBytes suspends the saga.
func SetProgress(ctx Context, progress proto.Message) {
	t := ctx.thread()
	if t.machine.Replaying() {
		return
	}
	data, err := deterministic.Marshal(progress)
	if err != nil {
		t.machine.Abort(fmt.Sprintf("serializing the progress: %v", err))
	}
	if len(data) > MaxProgressBytes {
		t.machine.Abort(fmt.Sprintf("the progress has %d bytes, and %d are allowed: say less", len(data), MaxProgressBytes))
	}
	t.machine.SetProgress(&anypb.Any{TypeUrl: "type.googleapis.com/" + string(progress.ProtoReflect().Descriptor().FullName()), Value: data})
}

// Version lets code change while sagas run. It returns the version of a change that the saga goes by: latest for a saga that comes by for the
// first time, and the same ever after; 0 for one that came by before the change was made.
//
//	if saga.Version(ctx, "ask the register", 1) == 0 {
//		... as it was
//	} else {
//		... as it is now
//	}
//
// The old path can go once no saga that takes it is open: the upgrade gate tells. A latest version below 1 suspends the saga; so does
// a journal that goes by a version above it, which newer code has written.
func Version(ctx Context, change string, latest int) int {
	if change == "" || !utf8.ValidString(change) || latest < 1 || latest > 1<<30 {
		ctx.thread().machine.Abort(fmt.Sprintf("saga.Version(%q, %d): a change has a name, and its versions are counted from 1", change, latest))
	}
	return int(ctx.thread().machine.Version(change, int32(latest)))
}

// Restart is the error with which a saga's function ends its round and begins the next, with a new request of its own type: for sagas that
// loop for years. The journal begins anew; steps so far stay as they are, and can't be undone any more, so a saga that its parent
// could undo is suspended instead. Name, labels, trace, progress and the events taken carry on; a deadline counts anew.
//
//	return nil, saga.Restart(ctx, next)
//
// It is to be returned by the function itself, not within a scope, which it would undo.
func Restart(ctx Context, request proto.Message) error {
	t := ctx.thread()
	if name := request.ProtoReflect().Descriptor().FullName(); name != t.input {
		t.machine.Abort(fmt.Sprintf("saga.Restart with a %s: the saga takes a %s", name, t.input))
	}
	data, err := deterministic.Marshal(request)
	if err != nil {
		t.machine.Abort(fmt.Sprintf("serializing the request of the restart: %v", err))
	}
	return &restartError{request: data}
}

// restartError begins a saga anew when its function returns it.
type restartError struct{ request []byte }

// Error says what it is for whoever logs it.
func (*restartError) Error() string {
	return "the saga begins anew"
}
