package sagatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// maxInterventions is how often a saga is resumed, or its orchestrator started again, in one run.
const maxInterventions = 20

// drive is one run of a saga with faults. The places that it reaches are recorded in their order.
type drive struct {
	world *World
	saga  *Saga
	plan  map[place]fault

	// timed makes commands take time, so that each run is the same. keeps records the turns.
	timed bool
	keeps bool
	over  chan struct{} // closed at the end of the run

	interrupt chan interruption // what the test's goroutine does next

	mu       sync.Mutex
	names    map[string]string // by saga id: the path of a child before its own paths, e.g. "3/"; empty for the saga
	reached  []reached
	seen     map[place]bool
	used     map[place]bool
	healed   bool
	late     []func() // copies of commands that arrive late
	held     []*heldEvent
	timers   []*timer         // in the order in which they began
	running  map[place][]bool // by event: which of the timers ran when it was published
	events   int
	resumed  []treatyv1.SuspensionReason
	problems []string

	cancelled bool // because an event never came

	turns  []sagaTurn
	titles []string // of the events
}

// interruption is a crash or a cancel.
type interruption struct {
	act   func()
	crash bool
}

// sagaTurn is a turn of a saga or of one of its children.
type sagaTurn struct {
	child  string // the path of the child before its own paths, e.g. "3/"; empty for the saga
	number uint64
	turn   *treatyv1.Turn
}

// keep keeps a turn.
func (d *drive) keep(turn sagaTurn) {
	if !d.keeps {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns = append(d.turns, turn)
}

// reached is a place that a run came to, with the faults that can happen there.
type reached struct {
	place  place
	faults []fault
}

func newDrive(w *World, faults []fault) *drive {
	d := &drive{
		world: w, plan: make(map[place]fault), over: make(chan struct{}), interrupt: make(chan interruption, 64),
		running: make(map[place][]bool),
		names:   make(map[string]string), seen: make(map[place]bool), used: make(map[place]bool),
	}
	for _, f := range faults {
		d.plan[f.place] = f
	}
	w.participants.middle = d.attempt
	w.cut.hook = d.append
	w.intercept = d.publish
	return d
}

// fault returns the fault of a place, if there is one. It records that the place was reached.
func (d *drive) fault(at place, faults func() []fault) (fault, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.seen[at] {
		d.seen[at] = true
		d.reached = append(d.reached, reached{at, faults()})
	}
	f, ok := d.plan[at]
	if ok {
		d.used[at] = true
	}
	return f, ok
}

// problem notes what is wrong with the run.
func (d *drive) problem(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problems = append(d.problems, fmt.Sprintf(format, args...))
}

// attempt delivers an attempt of a command with its fault.
func (d *drive) attempt(attempt *engine.Attempt, deliver func(Answer) engine.Answer) engine.Answer {
	at := d.placeOf(attempt)
	if !d.travel(at, attempt.Call.Timeout) {
		return lost("the run has ended")
	}
	f, ok := d.fault(at, func() []fault { return d.world.faultsOf(d.world.participants.find(attempt), at) })
	if !ok {
		return deliver(Answer{})
	}
	d.mu.Lock()
	healed := d.healed
	d.mu.Unlock()
	first := attempt.Number == 1 && attempt.Epoch == d.world.firstEpoch
	switch f.kind {
	case rejects:
		return deliver(rejectionOf(f.rejection))
	case refuses:
		return deliver(Fail(status.Error(codes.FailedPrecondition, "refused")))
	case duplicates:
		deliver(Answer{})
		return deliver(Answer{})
	case givenUpDone, givenUp:
		if healed {
			break
		}
		if f.kind == givenUpDone {
			deliver(Answer{})
		}
		return lost(string(f.kind))
	case losesReply, losesRequest, delays:
		if !first {
			break
		}
		switch f.kind {
		case losesReply:
			deliver(Answer{})
		case delays:
			d.mu.Lock()
			d.late = append(d.late, func() { deliver(Answer{}) })
			d.mu.Unlock()
		}
		return lost(string(f.kind))
	}
	return deliver(Answer{})
}

// rejectionOf returns a refusal with an empty rejection.
func rejectionOf(name string) Answer {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return Fail(status.Error(codes.FailedPrecondition, name))
	}
	return Reject(typ.New().Interface())
}

// nameOf returns the path of a child saga before its own paths; it is empty for the saga of the run.
func (d *drive) nameOf(sagaName string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[strings.TrimPrefix(sagaName, wire.SagaName(""))]
}

// append crashes or cancels at a turn.
func (d *drive) append(_ context.Context, group []*journal.Entry, next func() error) error {
	var after []func()
	for _, entry := range group {
		if entry.Turn == 0 {
			continue // events
		}
		turn := new(treatyv1.Turn)
		if err := proto.Unmarshal(entry.Data, turn); err != nil {
			return fmt.Errorf("reading turn %d of saga %s: %w", entry.Turn, entry.Saga, err)
		}
		child := d.child(entry, turn)
		d.note(child, turn)
		d.keep(sagaTurn{child, entry.Turn, turn})
		at := place{atTurn, child + strconv.FormatUint(entry.Turn, 10)}
		f, ok := d.fault(at, func() []fault {
			return []fault{
				{place: at, kind: crashesBefore}, {place: at, kind: crashesAfter}, {place: at, kind: cancels},
			}
		})
		if !ok || !d.once(at) {
			continue
		}
		switch f.kind {
		case crashesBefore:
			d.world.cut.dead.Store(true)
			d.interrupt <- interruption{act: d.world.Crash, crash: true}
			return errDead
		case crashesAfter:
			after = append(after, func() { d.world.cut.dead.Store(true) })
			d.interrupt <- interruption{act: d.world.Crash, crash: true}
		case cancels:
			d.interrupt <- interruption{act: d.cancel}
		}
	}
	err := next()
	if len(after) > 0 {
		after[0]()
		return errDead
	}
	return err
}

// cancel cancels the saga: in a timed run, when it stands still.
func (d *drive) cancel() {
	if d.timed {
		synctest.Wait()
	}
	if d.saga != nil {
		_ = d.saga.Cancel() // it may be refused, which is an answer, too
	}
}

// once removes the fault of a place, and returns whether it was there.
func (d *drive) once(at place) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.plan[at]
	delete(d.plan, at)
	return ok
}

// child returns the path of the saga of an entry, and learns which sagas are children.
func (d *drive) child(entry *journal.Entry, turn *treatyv1.Turn) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if entry.Turn == 1 {
		for _, record := range turn.GetRecords() {
			if id := record.GetSagaStarted().GetParent().GetCommandId(); id != "" {
				parent, step, _ := wire.SplitStep(id)
				d.names[entry.Saga] = d.names[parent] + step + "/"
			}
		}
	}
	return d.names[entry.Saga]
}

// publish holds an event back, or drops it.
func (d *drive) publish(title string, next func() error) error {
	d.mu.Lock()
	d.events++
	d.titles = append(d.titles, title)
	at := place{atEvent, strconv.Itoa(d.events)}
	for _, t := range d.timers {
		d.running[at] = append(d.running[at], !t.ended)
	}
	d.mu.Unlock()
	f, ok := d.fault(at, func() []fault { return nil }) // see besides
	if !ok {
		return next()
	}
	if f.kind != eventNever {
		d.hold(f, next)
	}
	return nil
}

// run drives the saga to its end. It plays the operator who resumes a saga that is suspended because a participant
// couldn't be reached.
func (d *drive) run(method string, request proto.Message) {
	if !d.start(method, request) {
		return
	}
	for range maxInterventions {
		if d.step() {
			d.settle()
			return
		}
	}
	d.problem("the saga was resumed %d times and still hasn't ended: %v", maxInterventions, d.resumed)
}

// start starts the saga, also when the orchestrator is killed meanwhile: then the client repeats the call. It returns
// false if the saga can't be started, which is a problem.
func (d *drive) start(method string, request proto.Message) bool {
	type started struct {
		saga *Saga
		err  error
	}
	for range maxInterventions {
		ctx, stop := context.WithCancel(d.world.t.Context())
		answer := make(chan started, 1)
		go func() {
			s, err := d.world.start(ctx, "s1", method, request)
			answer <- started{s, err}
		}()
		var interrupted interruption
		var got started
		select {
		case interrupted = <-d.interrupt:
			if interrupted.crash {
				stop()
			}
			got = <-answer
		case got = <-answer:
		}
		stop()
		if interrupted.act == nil && got.err != nil {
			select {
			case interrupted = <-d.interrupt: // it came at the same moment
			default:
				d.problem("%v", got.err)
				return false
			}
		}
		if got.err == nil {
			d.saga = got.saga
		}
		if interrupted.act != nil {
			interrupted.act()
		}
		if got.err == nil {
			return true
		}
	}
	d.problem("the saga couldn't be started in %d calls", maxInterventions)
	return false
}

// step waits until the saga has ended, which it returns, or something must be done about it, and does that.
func (d *drive) step() (ended bool) {
	waited := make(chan error, 1)
	s := d.saga
	ctx, stop := context.WithCancel(d.world.t.Context())
	go func() { waited <- s.waitIn(ctx, patience) }()
	var err error
	select {
	case interrupted := <-d.interrupt:
		stop()
		<-waited //nolint:errcheck // it was stopped
		interrupted.act()
		return false
	case err = <-waited:
		stop()
	}
	select {
	case interrupted := <-d.interrupt: // it came at the same moment
		interrupted.act()
		return false
	default:
	}
	switch {
	case errors.Is(err, errPatience) && d.release():
		return false
	case errors.Is(err, errPatience) && d.eventNever() && !d.cancelled:
		d.cancelled = true
		if err := s.Cancel(); err != nil {
			d.problem("cancelling the saga, which waits for an event that never comes: %v", err)
			return true
		}
		return false
	case err != nil:
		d.problem("%v", err)
		return true
	}
	view, err := s.view()
	if err != nil {
		d.problem("reading the saga: %v", err)
		return true
	}
	if view.GetState() != treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		return true
	}
	return d.resume(view)
}

// eventNever reports whether an event was dropped.
func (d *drive) eventNever() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at, f := range d.plan {
		if f.kind == eventNever && d.used[at] {
			return true
		}
	}
	return false
}

// resume lets a suspended saga continue. It returns true if nothing can be done, which is a problem.
func (d *drive) resume(view *treatyv1.Saga) (stuck bool) {
	reason := view.GetSuspension().GetReason()
	d.mu.Lock()
	d.resumed = append(d.resumed, reason)
	d.healed = true
	d.mu.Unlock()
	switch reason {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING:
	default:
		d.problem("the saga is suspended: %s: %s",
			strings.TrimPrefix(reason.String(), "SUSPENSION_REASON_"), view.GetSuspension().GetMessage())
		return true
	}
	err := d.world.driving().Resume(d.world.t.Context(), d.saga.id, engine.ResumeParams{
		Decision: &treatyv1.Decision{Actor: "explorer", Reason: "the participant can be reached again"},
		Action:   machine.Retry,
	})
	if err != nil {
		d.problem("resuming the saga: %v", err)
	}
	return err != nil
}

// settle lets arrive what is late, and waits until everything stands still.
func (d *drive) settle() {
	synctest.Wait()
	before := d.world.participants.effects()
	d.mu.Lock()
	late := d.late
	d.mu.Unlock()
	for _, deliver := range late {
		deliver()
	}
	if d.timed {
		<-time.After(travelMost) // what a killed orchestrator had sent arrives, too
	}
	synctest.Wait()
	after := d.world.participants.effects()
	for _, command := range slices.Sorted(maps.Keys(after)) {
		if after[command] != before[command] {
			d.problem("%s took effect when a late copy arrived after the saga's end", command)
		}
	}
}

// places returns the places that the run came to, with their faults.
func (d *drive) places() []reached {
	d.mu.Lock()
	defer d.mu.Unlock()
	places := slices.Clone(d.reached)
	for i, r := range places {
		if r.place.what == atEvent {
			places[i].faults = d.besides(r.place)
		}
	}
	return places
}

// unused returns the faults whose places weren't reached.
func (d *drive) unused(faults []fault) []fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return d.used[f.place] })
}
