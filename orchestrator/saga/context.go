package saga

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Context connects saga code to its saga. A saga's function receives one, and so does each branch and scope; code must
// use the innermost one that it received, and only on the goroutine on which it was called. Nothing else can create a
// Context. It isn't a context.Context, so it can't be passed to a network call by mistake.
//
// Using a Context on another goroutine suspends the saga. There, functions that return an error return one, and the
// others end the goroutine.
type Context interface {
	// Saga returns the saga's name, "sagas/{saga}". It may be called on any goroutine.
	Saga() string

	thread() *thread
}

// thread is the only implementation of Context.
type thread struct {
	machine *machine.Thread
	input   protoreflect.FullName // the saga's request
	logger  *slog.Logger
	rand    *rand.Rand
	ids     uint64
}

func (t *thread) Saga() string    { return wire.SagaName(t.machine.Saga()) }
func (t *thread) thread() *thread { return t }

// child returns the Context of a branch.
func (t *thread) child(machine *machine.Thread) Context {
	return &thread{machine: machine, input: t.input}
}

// enter begins a use of a Context by a function that has no error to return. On a goroutine that saga code started, it
// ends the goroutine, and the saga is suspended. Call leave after the use.
func enter(ctx Context) *thread {
	t, err := tryEnter(ctx)
	if err != nil {
		runtime.Goexit()
	}
	return t
}

// tryEnter begins a use of a Context. On a goroutine that saga code started, it returns an error, and the saga is
// suspended. Call leave after the use.
func tryEnter(ctx Context) (*thread, error) {
	t := ctx.thread()
	if err := t.machine.Use(); err != nil {
		return nil, fmt.Errorf("%s: %w", t.Saga(), err)
	}
	return t, nil
}

func (t *thread) leave() { t.machine.Release() }

// Now returns the current time, in UTC to the microsecond. It doesn't change between two steps or waits, and is the
// same in every replay.
func Now(ctx Context) time.Time {
	t := enter(ctx)
	defer t.leave()
	return t.machine.Now()
}

// NewID returns a new UUID of version 8. It differs for each call and is the same in every replay. It is not a secret:
// it can be computed from the journal.
func NewID(ctx Context) string {
	t := enter(ctx)
	defer t.leave()
	t.ids++
	hash := sha256.New()
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:8], t.machine.Started().GetSeed())
	binary.BigEndian.PutUint64(numbers[8:], t.ids)
	hash.Write(numbers[:])
	hash.Write([]byte(t.machine.Saga() + "/" + t.machine.Path()))
	var id uuid.UUID
	copy(id[:], hash.Sum(nil))
	id[6] = id[6]&0x0f | 0x80 // version 8: made by the application
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id.String()
}

// Rand returns a source of random numbers, one for each branch. It gives the same numbers in every replay. Don't use it
// for secrets.
func Rand(ctx Context) *rand.Rand {
	t := enter(ctx)
	defer t.leave()
	if t.rand == nil {
		t.rand = rand.New(rand.NewPCG(t.machine.Started().GetSeed(), pathSeed(t.machine.Path())))
	}
	return t.rand
}

func pathSeed(path string) uint64 {
	sum := sha256.Sum256([]byte(path))
	return binary.BigEndian.Uint64(sum[:])
}

// Logger returns the orchestrator's logger with the saga's name. It writes nothing while the code is replayed, so each
// line is written once. The exception is a line that the code logs right before the orchestrator stops: it may be
// written twice. The logger itself may be used on any goroutine.
func Logger(ctx Context) *slog.Logger {
	t := enter(ctx)
	defer t.leave()
	if t.logger == nil {
		base, ok := t.machine.Environment().(*slog.Logger)
		if !ok {
			base = slog.Default()
		}
		t.logger = slog.New(liveHandler{base.Handler(), t.machine}).With("saga", t.Saga())
	}
	return t.logger
}

// liveHandler drops log records during a replay.
type liveHandler struct {
	slog.Handler
	thread *machine.Thread
}

func (h liveHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return !h.thread.Replaying() && h.Handler.Enabled(ctx, level)
}

func (h liveHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return liveHandler{h.Handler.WithAttrs(attrs), h.thread}
}

func (h liveHandler) WithGroup(name string) slog.Handler {
	return liveHandler{h.Handler.WithGroup(name), h.thread}
}
