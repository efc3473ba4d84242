package saga

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Sleep waits. It never ends early, goes on over restarts of the orchestrator, and costs no memory, however long it is. A duration that isn't
// positive is over at once.
func Sleep(ctx Context, d time.Duration) { SleepUntil(ctx, Now(ctx).Add(d)) }

// SleepUntil waits until a moment. One that has passed is over at once.
func SleepUntil(ctx Context, moment time.Time) {
	if moment.IsZero() {
		moment = time.Unix(0, 0) // to a Wait, the zero moment is none at all
	}
	ctx.thread().machine.Wait(&machine.Wait{Until: moment.UTC()})
}

// Event is the next event of one key, to be awaited with Await or First.
type Event[T proto.Message] struct {
	subject string
	message T
	arrived *treatyv1.EventArrived
}

// NextEvent is the next event of type T with the given correlation key. It is what generated functions are made of: call those.
//
// An event counts when it was published after the saga was started, also when that was before anybody awaited it. Each one is taken
// once: the saga's next wait for the same key gets the next event. Other sagas that await it get it too. A key that is empty
// suspends the saga.
func NextEvent[T proto.Message](subject string) *Event[T] { return &Event[T]{subject: subject} }

// Message returns the event that came; nil when none has.
func (e *Event[T]) Message() T { return e.message }

// Time returns when the event happened, as its publisher says; zero when none has come.
func (e *Event[T]) Time() time.Time {
	if e.arrived == nil {
		return time.Time{}
	}
	return e.arrived.GetTime().AsTime()
}

func (e *Event[T]) await(wait *machine.Wait, _ time.Time) {
	wait.Events = append(wait.Events, &treatyv1.EventKey{Type: e.name(), Subject: e.subject})
}

func (e *Event[T]) name() string {
	var none T
	return string(none.ProtoReflect().Descriptor().FullName())
}

func (e *Event[T]) take(t *machine.Thread, arrived *treatyv1.EventArrived) {
	var none T
	message := none.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(arrived.GetData(), message); err != nil {
		t.Abort(fmt.Sprintf("the event %s of %s can't be read as %s: %v", arrived.GetId(), arrived.GetSource(), e.name(), err))
	}
	e.message, e.arrived = message.(T), arrived //nolint:forcetypeassert // it was made from T's own type
}

// Timer is a moment, to be awaited with First.
type Timer struct {
	d     time.Duration
	until time.Time
}

// After is the moment after a duration, which counts from when it is first awaited.
func After(d time.Duration) *Timer { return &Timer{d: d} }

func (t *Timer) await(wait *machine.Wait, now time.Time) {
	if t.until.IsZero() {
		t.until = now.Add(t.d)
	}
	if wait.Until.IsZero() || t.until.Before(wait.Until) {
		wait.Until = t.until
	}
}

func (t *Timer) take(*machine.Thread, *treatyv1.EventArrived) {}

// Awaitable is what First waits for: an *Event or a *Timer.
type Awaitable interface {
	await(wait *machine.Wait, now time.Time)
	take(t *machine.Thread, arrived *treatyv1.EventArrived)
}

// First waits for several things and returns the one that came first.
//
//	verified, refused, late := identityv1saga.NextApplicantVerified(name), identityv1saga.NextApplicantTurnedDown(name), saga.After(48*time.Hour)
//	switch saga.First(ctx, verified, refused, late) {
//	case verified: ... verified.Message() ...
//	case refused: ...
//	case late: ...
//	}
func First(ctx Context, awaitables ...Awaitable) Awaitable {
	t, wait := ctx.thread(), &machine.Wait{}
	if len(awaitables) == 0 {
		t.machine.Abort("saga.First waits for nothing: hand it at least one event or timer")
	}
	var earliest *Timer
	var events []Awaitable
	for _, a := range awaitables {
		a.await(wait, t.machine.Now())
		timer, isTimer := a.(*Timer)
		if !isTimer {
			events = append(events, a)
		} else if earliest == nil || timer.until.Before(earliest.until) {
			earliest = timer
		}
	}
	arrived := t.machine.Wait(wait).Event
	if arrived == nil {
		return earliest
	}
	first := events[arrived.GetIndex()]
	first.take(t.machine, arrived)
	return first
}

// WaitOption is a setting of Await; Within makes one.
type WaitOption interface {
	timeout() time.Duration
}

func (o WithinOption) timeout() time.Duration { return o.d }

// Await waits for an event and returns it; ErrTimeout when its time was up. Without a time limit it waits for ever.
func Await[T proto.Message](ctx Context, event *Event[T], options ...WaitOption) (T, error) {
	awaitables := []Awaitable{event}
	for _, option := range options {
		if d := option.timeout(); d > 0 {
			awaitables = append(awaitables, After(d))
		}
	}
	if First(ctx, awaitables...) != Awaitable(event) {
		var none T
		return none, fmt.Errorf("awaiting %s of %s: %w", event.name(), event.subject, ErrTimeout)
	}
	return event.message, nil
}
