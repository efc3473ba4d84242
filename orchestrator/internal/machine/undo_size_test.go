package machine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestUndoFits sends compensatable commands of many sizes, and answers them with replies of many sizes. The request of
// the compensation, which has both, is never larger than what gRPC servers receive by default.
func TestUndoFits(t *testing.T) {
	const (
		most   = machine.MaxPayloadBytes
		room   = 64 << 10 // what a command leaves for its reply
		fields = 10       // the tags and lengths of two fields of this size
	)
	undo := &contract.Compensation{
		CallConfig: contract.CallConfig{Method: "UndoA"}, ActionField: 1, ReplyField: 2,
	}
	config := machine.Config{
		ID: "x",
		Command: func(method string) (*contract.Command, bool) {
			return &contract.Command{
				CallConfig: contract.CallConfig{Method: method}, Compensation: undo,
				Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			}, true
		},
	}
	for _, test := range []struct {
		name           string
		request, reply int
		refused        bool // the command isn't sent
		dropped        bool // the reply isn't recorded
	}{
		{name: "small", request: 1, reply: 1},
		{name: "largest request", request: most - room - fields + 1, reply: room},
		{name: "larger request", request: most - room, reply: 1, refused: true},
		{name: "request of the old limit", request: most, reply: 1, refused: true},
		{name: "halves", request: most/2 - fields, reply: most / 2},
		{name: "larger halves", request: most / 2, reply: most / 2, dropped: true},
		{name: "small request, largest reply", request: 0, reply: most - fields},
		{name: "small request, reply of the old limit", request: 0, reply: most, dropped: true},
		{name: "both are large", request: 3 << 20, reply: 3 << 20, dropped: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			config.Code = func(thread *machine.Thread, _ []byte) ([]byte, *treatyv1.Failure) {
				thread.Call(&machine.Call{Method: "A", Request: make([]byte, test.request)})
				return nil, &treatyv1.Failure{Code: int32(codes.Aborted), Message: "it always fails"}
			}
			m := machine.New(config)
			defer m.Close()
			now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
			started, err := m.Apply(now, machine.Start{Started: &treatyv1.SagaStarted{Definition: "Test/Saga"}})
			if err != nil {
				t.Fatal(err)
			}
			if test.refused {
				if got := m.Saga().Suspension.GetMessage(); len(started.Effects) > 0 ||
					!strings.Contains(got, "the request of its compensation has it, too") {
					t.Errorf("sent %d commands, suspended with %q", len(started.Effects), got)
				}
				return
			}
			if len(started.Effects) != 1 {
				t.Fatalf("suspended with %q", m.Saga().Suspension.GetMessage())
			}
			done := machine.CommandEnded{
				Step: "1", Direction: machine.Action, Outcome: machine.Done, Reply: make([]byte, test.reply),
			}
			if test.dropped {
				_, err := m.Apply(now, machine.CommandCompleted(done))
				if !errors.Is(err, machine.ErrReplyTooLarge) {
					t.Errorf("completed with that reply: %v", err)
				}
			}
			ended, err := m.Apply(now, done)
			if err != nil || len(ended.Effects) != 1 || ended.Effects[0].Direction != machine.Compensation {
				t.Fatalf("effects %v, %v", ended.Effects, err)
			}
			step := m.Saga().Steps[0]
			request := contract.CompensationRequest(undo.Plan(), step.Scheduled.GetRequest(), step.Reply)
			if len(request) > most {
				t.Errorf("the compensation's request has %d bytes", len(request))
			}
			if (step.Reply == nil) != test.dropped {
				t.Errorf("the reply has %d bytes", len(step.Reply))
			}
			if test.dropped && !strings.Contains(step.Failure.GetMessage(), "store the data elsewhere") {
				t.Errorf("the failure is %v", step.Failure)
			}
		})
	}
}

// TestUndoTooLarge compensates a step of a journal from before that was held. Its compensation can't be sent. The saga
// is suspended with that as its reason, and retrying doesn't fit it.
func TestUndoTooLarge(t *testing.T) {
	m := machine.New(machine.Config{ID: "x"})
	defer m.Close()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := m.Replay(&treatyv1.Turn{Time: timestamppb.New(now), Records: []*treatyv1.Record{
		{Kind: &treatyv1.Record_SagaStarted{SagaStarted: &treatyv1.SagaStarted{Definition: "Test/Saga"}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
			Step: "1", Method: "A", Request: make([]byte, 3<<20), Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			Compensation: &treatyv1.CompensationPlan{Method: "UndoA", ActionField: 1, ReplyField: 2},
		}}},
		{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: "1", Reply: make([]byte, 3<<20)}}},
		{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: &treatyv1.CompensationDecided{}}},
		{Kind: &treatyv1.Record_CompensationScheduled{
			CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1"},
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	notSent := machine.CommandEnded{
		Step: "1", Direction: machine.Compensation, Outcome: machine.Refused,
		Failure: &treatyv1.Failure{Code: int32(codes.InvalidArgument), Message: "not sent"},
	}
	if _, err := m.Apply(now, notSent); err != nil {
		t.Fatal(err)
	}
	got := m.Saga().Suspension
	if got.GetReason() != treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE ||
		!strings.Contains(got.GetMessage(), "was never sent") {
		t.Errorf("suspended with %v", got)
	}
	if _, err := m.Apply(now, machine.Resume{Action: machine.Retry}); !errors.Is(err, machine.ErrDecisionUnfit) {
		t.Errorf("retried: %v", err)
	}
	out, err := m.Apply(now, machine.Resume{Action: machine.RetryEdited, Payload: []byte("smaller")})
	if err != nil || len(out.Effects) != 1 {
		t.Fatalf("retried with an edited request: %v, %v", out.Effects, err)
	}
	// What is refused now is refused by the participant.
	if _, err := m.Apply(now, notSent); err != nil {
		t.Fatal(err)
	}
	if got := m.Saga().Suspension.GetReason(); got !=
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED {
		t.Errorf("suspended for %v", got)
	}
}
