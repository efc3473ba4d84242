package saga

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Sleep waits for a duration. It never returns early, continues after restarts of the orchestrator, and uses no memory
// while it waits. A duration that isn't positive returns at once.
func Sleep(ctx Context, d time.Duration) { SleepUntil(ctx, Now(ctx).Add(d)) }

// SleepUntil waits until a point in time. If that time has passed, it returns at once.
func SleepUntil(ctx Context, moment time.Time) {
	if moment.IsZero() {
		moment = time.Unix(0, 0) // the zero time would mean a wait without end
	}
	t := enter(ctx)
	defer t.leave()
	t.machine.Wait(&machine.Wait{Until: moment.UTC()})
}

// Event is the next event with one correlation key. Pass it to [Await] or [First].
type Event[T proto.Message] struct {
	subject string
	message T
	arrived *treatyv1.EventArrived
}

// NextEvent returns the next event of type T with a correlation key. It is for generated code: call the generated
// function of the event.
//
// An event counts if it was published after the saga started, even before the saga awaited it. The saga takes each
// event once: its next wait for the same key gets the next event. Other sagas get the same event. An empty key suspends
// the saga when the event is awaited.
func NextEvent[T proto.Message](subject string) *Event[T] { return &Event[T]{subject: subject} }

// Message returns the event that arrived, or nil.
func (e *Event[T]) Message() T { return e.message }

// Time returns when the event happened, according to its publisher. It returns the zero time if no event has arrived.
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
		t.Abort(fmt.Sprintf("reading event %s from %s as %s: %v", arrived.GetId(), arrived.GetSource(), e.name(), err))
	}
	e.message, e.arrived = message.(T), arrived //nolint:forcetypeassert // made from T's own type
}

// Timer is a moment to wait for. [After] returns one; pass it to [First].
type Timer struct {
	d     time.Duration
	until time.Time
}

// After returns a timer. Its duration counts from when the timer is first passed to [First].
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

// Awaitable is what [First] can wait for: an [*Event] or a [*Timer].
type Awaitable interface {
	await(wait *machine.Wait, now time.Time)
	take(t *machine.Thread, arrived *treatyv1.EventArrived)
}

// First waits for several events and timers, and returns the one that came first. Without any, it suspends the saga.
//
//	verified := identityv1saga.NextApplicantVerified(name)
//	refused := identityv1saga.NextApplicantTurnedDown(name)
//	late := saga.After(48 * time.Hour)
//	switch saga.First(ctx, verified, refused, late) {
//	case verified: // use verified.Message()
//	case refused:
//	case late:
//	}
func First(ctx Context, awaitables ...Awaitable) Awaitable {
	t := enter(ctx)
	defer t.leave()
	return t.first(awaitables)
}

func (t *thread) first(awaitables []Awaitable) Awaitable {
	wait := &machine.Wait{}
	if len(awaitables) == 0 {
		t.machine.Abort("saga.First needs at least one event or timer")
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

// WaitOption is a setting of [Await]. [Within] returns one.
type WaitOption interface {
	timeout() time.Duration
}

func (o WithinOption) timeout() time.Duration { return o.d }

// Await waits for an event and returns it. With [Within], it returns an error that wraps [ErrTimeout] when no event
// arrives in time. Without, it waits forever.
func Await[T proto.Message](ctx Context, event *Event[T], options ...WaitOption) (T, error) {
	var none T
	t, err := tryEnter(ctx)
	if err != nil {
		return none, err
	}
	defer t.leave()
	awaitables := []Awaitable{event}
	for _, option := range options {
		if d := option.timeout(); d > 0 {
			awaitables = append(awaitables, After(d))
		}
	}
	if t.first(awaitables) != Awaitable(event) {
		return none, fmt.Errorf("awaiting %s of %s: %w", event.name(), event.subject, ErrTimeout)
	}
	return event.message, nil
}
