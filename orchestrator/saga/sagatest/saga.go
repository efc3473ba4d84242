package sagatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// patience is how long Wait waits, in virtual time.
const patience = 100 * 365 * 24 * time.Hour

// errPatience means that a saga doesn't end.
var errPatience = errors.New("still hasn't ended")

// Saga is a saga that a test started.
type Saga struct {
	world      *World
	definition *contract.SagaDefinition
	id         string
}

// Command is a command that a saga sent.
type Command struct {
	// Method is the method that was called, e.g. "acme.card.v1.CardService/IssueCard".
	Method string

	// Compensation says that it undoes the action of the step.
	Compensation bool

	// Step is the path of the step, e.g. "3".
	Step string

	// Participant names the participant of a broadcast. It is empty for other commands.
	Participant string

	// Request is the request.
	Request proto.Message

	// Attempts is how often the command was sent.
	Attempts int

	saga  string
	epoch uint64 // of the process that sent it first
}

// String returns the command as WantCommands takes it, e.g. "action IssueCard".
func (c *Command) String() string {
	direction := wire.Action
	if c.Compensation {
		direction = wire.Compensation
	}
	text := direction + " " + c.Method[strings.LastIndexByte(c.Method, '/')+1:]
	if c.Participant != "" {
		text += " at " + c.Participant
	}
	return text
}

// Name returns the saga's name, "sagas/{saga}".
func (s *Saga) Name() string { return wire.SagaName(s.id) }

// Wait waits until the saga has ended or is suspended, however long that takes in virtual time. The test fails if the
// saga is still open after a hundred years, or after 20,000 attempts of a command: then the error says what it waits
// for. Publish the event, complete the command or answer it to let it continue.
func (s *Saga) Wait() {
	s.world.t.Helper()
	if err := s.wait(patience); err != nil {
		s.world.t.Fatal(err)
	}
}

func (s *Saga) wait(limit time.Duration) error { return s.waitIn(s.world.t.Context(), limit) }

func (s *Saga) waitIn(parent context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	endless := s.world.participants.endless
	defer context.AfterFunc(endless, cancel)()
	watch := s.world.driving().Watch(s.id)
	defer watch.Close()
	for {
		view, err := watch.Next(ctx)
		switch {
		case err != nil && endless.Err() != nil:
			return fmt.Errorf("%s (%s) %w: %w", s.Name(), s.definition.Definition, errPatience, context.Cause(endless))
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%s (%s) %w after %s: %s", s.Name(), s.definition.Definition, errPatience, limit,
				s.standing())
		case err != nil:
			return fmt.Errorf("watching %s: %w", s.Name(), err)
		}
		if view.Saga.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING &&
			view.Saga.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATING {
			return nil
		}
	}
}

// standing says what an open saga waits for.
func (s *Saga) standing() string {
	view, err := s.view()
	if err != nil {
		return err.Error()
	}
	var waits []string
	for _, step := range view.GetSteps() {
		switch step.GetState() {
		case treatyv1.StepState_STEP_STATE_SCHEDULED, treatyv1.StepState_STEP_STATE_COMPENSATING:
			waits = append(waits, fmt.Sprintf("step %s (%s) is %s", step.GetName(), step.GetMethod(),
				strings.TrimPrefix(step.GetState().String(), "STEP_STATE_")))
		}
	}
	for _, wait := range view.GetWaits() {
		waits = append(waits, "it waits for "+prototext.MarshalOptions{}.Format(wait))
	}
	if len(waits) == 0 {
		return "it waits for nothing"
	}
	return strings.Join(waits, "; ")
}

func (s *Saga) view() (*treatyv1.Saga, error) {
	return s.world.driving().Get(s.world.t.Context(), s.id)
}

// View returns the saga as the API shows it: its state, steps, waits, progress and labels.
func (s *Saga) View() *treatyv1.Saga {
	s.world.t.Helper()
	view, err := s.view()
	if err != nil {
		s.world.t.Fatal(err)
	}
	return view
}

// State returns the saga's state.
func (s *Saga) State() treatyv1.SagaState {
	s.world.t.Helper()
	return s.View().GetState()
}

// Commands returns the commands that the saga has sent, in the order of their first attempts. Those of its children
// belong to the children.
func (s *Saga) Commands() []*Command {
	s.world.participants.mu.Lock()
	defer s.world.participants.mu.Unlock()
	var own []*Command
	for _, command := range s.world.participants.commands {
		if command.saga == s.Name() {
			own = append(own, new(*command))
		}
	}
	return own
}

// Cancel cancels the saga, as a client does. The error says why it can't be cancelled.
func (s *Saga) Cancel() error {
	return s.world.driving().Cancel(s.world.t.Context(), s.id, engine.CancelParams{})
}

// Result returns the saga's reply, or the error that its client receives. It waits for the end as Wait does. The test
// fails if the saga is suspended.
func (s *Saga) Result() (proto.Message, error) {
	s.world.t.Helper()
	s.Wait()
	if view := s.View(); view.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		s.world.t.Fatalf("%s is suspended: %s", s.Name(), view.GetSuspension().GetMessage())
	}
	end, err := s.world.driving().Await(s.world.t.Context(), s.id)
	if err != nil {
		s.world.t.Fatal(err)
	}
	if end.State != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		return nil, status.FromProto(&spb.Status{
			Code: end.Failure.GetCode(), Message: end.Failure.GetMessage(), Details: end.Failure.GetDetails(),
		}).Err()
	}
	reply := typeOf(s.definition.Output).New().Interface()
	if err := proto.Unmarshal(end.Reply, reply); err != nil {
		s.world.t.Fatalf("reading the reply of %s: %v", s.Name(), err)
	}
	return reply, nil
}

// WantReply reports an error unless the saga succeeds with the reply. It waits for the end.
func (s *Saga) WantReply(want proto.Message) {
	s.world.t.Helper()
	got, err := s.Result()
	switch {
	case err != nil:
		s.world.t.Errorf("%s was compensated: %v; want the reply %s", s.Name(), err, text(want))
	case !proto.Equal(got, want):
		s.world.t.Errorf("the reply of %s is\n%s\nwant\n%s", s.Name(), text(got), text(want))
	}
}

// WantRejection reports an error unless the saga is compensated with an error that has the rejection among its details.
// It waits for the end.
func (s *Saga) WantRejection(want proto.Message) {
	s.world.t.Helper()
	got, err := s.Result()
	if err == nil {
		s.world.t.Errorf("%s succeeded with %s; want the rejection %s", s.Name(), text(got), text(want))
		return
	}
	for _, detail := range status.Convert(err).Details() {
		if m, ok := detail.(proto.Message); ok && proto.Equal(m, want) {
			return
		}
	}
	s.world.t.Errorf("the error of %s is %v with the details %v; want the rejection %s", s.Name(), err,
		status.Convert(err).Details(), text(want))
}

// WantCommands reports an error unless the saga has sent these commands, in this order. Each is a direction and the
// name of a method, e.g. "action IssueCard" or "compensation RemoveCustomer", with " at NAME" for a broadcast to one
// participant.
func (s *Saga) WantCommands(want ...string) {
	s.world.t.Helper()
	var got []string
	for _, command := range s.Commands() {
		got = append(got, command.String())
	}
	if !slices.Equal(got, want) {
		s.world.t.Errorf("%s sent\n\t%s\nwant\n\t%s", s.Name(), strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// WantWaits reports an error unless the saga, once it stands still, waits for exactly these, in the order of their
// paths:
//
//   - a command in flight, such as one that its participant has accepted: the name of its method, e.g. "IssueCard";
//   - a time: how long from the start of the wait, e.g. "72h" or, for whole days from a week on, "365d";
//   - events: "ApplicantVerified of applicants/ada", with " or " between several, and before a time that ends the wait;
//   - participants for a broadcast: "participants of DeleteUserData".
//
// A saga that has ended waits for nothing.
func (s *Saga) WantWaits(want ...string) {
	s.world.t.Helper()
	s.world.Settle()
	type wait struct{ path, what string }
	var waits []wait
	view := s.View()
	for _, step := range view.GetSteps() {
		switch step.GetState() {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
			waits = append(waits, wait{step.GetName(), short(step.GetMethod())})
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			waits = append(waits, wait{step.GetName(), short(step.GetCompensationMethod())})
		}
	}
	for _, w := range view.GetWaits() {
		waits = append(waits, wait{wire.JoinStep(s.Name(), w.GetWait()), waitText(w)})
	}
	slices.SortStableFunc(waits, func(a, b wait) int {
		_, one, _ := wire.SplitStep(a.path)
		_, other, _ := wire.SplitStep(b.path)
		return comparePaths(one, other)
	})
	var got []string
	for _, w := range waits {
		got = append(got, w.what)
	}
	if !slices.Equal(got, want) {
		s.world.t.Errorf("%s (%s) waits for %q; want %q", s.Name(), stateName(view.GetState()), got, want)
	}
}

// waitText returns what a wait is for.
func waitText(wait *treatyv1.Wait) string {
	var ends []string
	for _, event := range wait.GetEvents() {
		ends = append(ends, short(event.GetType())+" of "+event.GetSubject())
	}
	if wait.GetBroadcast() != "" {
		ends = append(ends, "participants of "+short(wait.GetBroadcast()))
	}
	if wait.GetDueTime() != nil {
		ends = append(ends, spanOf(wait.GetDueTime().AsTime().Sub(wait.GetScheduleTime().AsTime())))
	}
	return strings.Join(ends, " or ")
}

// WantProgress reports an error unless the saga, once it stands still, has set this progress last; nil: none.
func (s *Saga) WantProgress(want proto.Message) {
	s.world.t.Helper()
	s.world.Settle()
	packed := s.View().GetProgress()
	if packed == nil && want == nil {
		return
	}
	got, err := packed.UnmarshalNew()
	switch {
	case packed == nil:
		s.world.t.Errorf("%s has set no progress; want %s", s.Name(), text(want))
	case err != nil:
		s.world.t.Errorf("reading the progress of %s: %v", s.Name(), err)
	case want == nil:
		s.world.t.Errorf("the progress of %s is %s; want none", s.Name(), text(got))
	case !proto.Equal(got, want):
		s.world.t.Errorf("the progress of %s is\n%s\nwant\n%s", s.Name(), text(got), text(want))
	}
}

// WantLabels reports an error unless the saga has exactly these labels.
func (s *Saga) WantLabels(want map[string]string) {
	s.world.t.Helper()
	if got := s.View().GetLabels(); !maps.Equal(got, want) {
		s.world.t.Errorf("the labels of %s are %v; want %v", s.Name(), got, want)
	}
}

func text(m proto.Message) string {
	return string(m.ProtoReflect().Descriptor().FullName()) + " {" +
		prototext.MarshalOptions{Multiline: false}.Format(m) + "}"
}
