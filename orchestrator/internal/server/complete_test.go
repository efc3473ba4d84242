package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	action       = treatyv1.StepDirection_STEP_DIRECTION_ACTION
	compensation = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
)

// inspecting is a saga that inspects a passport in step 2.1.1.
func inspecting(id string) *treatyv1.Saga {
	return &treatyv1.Saga{Name: "sagas/" + id, Steps: []*treatyv1.Step{
		{Name: "sagas/" + id + "/steps/1", Method: "acme.identity.v1.IdentityService/RegisterApplicant"},
		{
			Name: "sagas/" + id + "/steps/2.1.1", Method: "acme.identity.v1.IdentityService/InspectPassport",
			CompensationMethod: "acme.identity.v1.IdentityService/DiscardInspection",
			State:              treatyv1.StepState_STEP_STATE_SCHEDULED,
		},
		{Name: "sagas/" + id + "/steps/3", Method: "acme.gone.v1.Gone/Do"},
		{
			Name:               "sagas/" + id + "/steps/4",
			Method:             verifyApplicant,
			CompensationMethod: undoVerifyApplicant,
			State:              treatyv1.StepState_STEP_STATE_SCHEDULED,
		},
	}}
}

func replied(held *anypb.Any) *treatyv1.CompleteStepRequest_Reply {
	return &treatyv1.CompleteStepRequest_Reply{Reply: held}
}

func TestCompleteStep(t *testing.T) {
	inspected := &identityv1.PassportInspected{Inspection: "inspections/1", Applicant: "applicants/1"}
	rejected := &treatyv1.Failure{
		Code:    int32(codes.FailedPrecondition),
		Message: "forged",
		Details: []*anypb.Any{pack(t, &identityv1.PassportNotGenuine{Finding: "glue"})},
	}
	for name, test := range map[string]struct {
		request *treatyv1.CompleteStepRequest
		want    engine.Completion
	}{
		"reply": {
			&treatyv1.CompleteStepRequest{Direction: action, How: replied(pack(t, inspected))},
			engine.Completion{Direction: engine.Action, Reply: marshal(t, inspected)},
		},
		"refusal": {
			&treatyv1.CompleteStepRequest{
				Direction: action, How: &treatyv1.CompleteStepRequest_Refusal{Refusal: rejected},
			},
			engine.Completion{Direction: engine.Action, Refusal: rejected},
		},
		"empty reply of a compensation": {
			&treatyv1.CompleteStepRequest{
				Direction: compensation, How: replied(pack(t, &identityv1.InspectionDiscarded{})),
			},
			engine.Completion{Direction: engine.Compensation, Reply: []byte{}},
		},
		"by a person": {
			&treatyv1.CompleteStepRequest{
				Direction: compensation, How: replied(pack(t, &identityv1.InspectionDiscarded{})),
				Decision: &treatyv1.Decision{Actor: "ada", Reason: "discarded by hand"}, Etag: "seen", Force: true,
			},
			engine.Completion{
				Direction: engine.Compensation, Reply: []byte{},
				Decision: &treatyv1.Decision{Actor: "ada", Reason: "discarded by hand", Principal: "local"},
				Etag:     "seen", Force: true,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			var got engine.Completion
			a.engine.get = func(id string) (*treatyv1.Saga, error) { return inspecting(id), nil }
			a.engine.complete = func(c engine.Completion) error {
				got = c
				return nil
			}
			test.request.Name = "sagas/a1/steps/2.1.1"
			if _, err := a.sagas.CompleteStep(a.ctx(), test.request); err != nil {
				t.Fatal(err)
			}
			if got.Etag != test.want.Etag || got.Force != test.want.Force {
				t.Errorf("completed with the etag %q, force %v", got.Etag, got.Force)
			}
			if got.Principal != "local" {
				t.Errorf("completed by %q", got.Principal)
			}
			if got.Saga != "a1" || got.Step != "2.1.1" || got.Direction != test.want.Direction {
				t.Errorf("completed %+v", got)
			}
			if (got.Reply == nil) != (test.want.Reply == nil) || string(got.Reply) != string(test.want.Reply) ||
				!proto.Equal(got.Refusal, test.want.Refusal) || !proto.Equal(got.Decision, test.want.Decision) {
				t.Errorf(
					"completed with %q, %v, want %q, %v", got.Reply, got.Refusal, test.want.Reply, test.want.Refusal,
				)
			}
		})
	}
}

// The same reply in other bytes is the same completion, also while and after the step is compensated.
func TestCompleteStepAgain(t *testing.T) {
	first := marshal(t, &identityv1.PassportInspected{Inspection: "inspections/1"})
	// the last value of a field counts
	again := &anypb.Any{
		TypeUrl: "type.googleapis.com/acme.identity.v1.PassportInspected",
		Value:   slices.Concat([]byte("\x0a\x01x"), first),
	}
	other := pack(t, &identityv1.PassportInspected{Inspection: "inspections/2"})
	for _, state := range []treatyv1.StepState{treatyv1.StepState_STEP_STATE_DONE,
		treatyv1.StepState_STEP_STATE_COMPENSATING, treatyv1.StepState_STEP_STATE_COMPENSATED} {
		t.Run(state.String(), func(t *testing.T) {
			a := newTestServer(t)
			a.engine.get = func(id string) (*treatyv1.Saga, error) {
				saga := inspecting(id)
				saga.Steps[1].State, saga.Steps[1].Reply = state, &anypb.Any{
					TypeUrl: "x/acme.identity.v1.PassportInspected", Value: first,
				}
				return saga, nil
			}
			a.engine.complete = func(c engine.Completion) error {
				if string(c.Reply) != string(first) {
					return machine.ErrStepEnded
				}
				return nil
			}
			complete := func(reply *anypb.Any) error {
				_, err := a.sagas.CompleteStep(
					a.ctx(),
					&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/2.1.1", Direction: action, How: replied(reply)},
				)
				return err
			}
			if err := complete(again); err != nil {
				t.Error(err)
			}
			if got, want := failureOf(t, complete(other)), (failure{code: codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED, saga: "sagas/a1"}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestCompleteStepRefuses(t *testing.T) {
	const name = "sagas/a1/steps/2.1.1"
	inspected := replied(pack(t, &identityv1.PassportInspected{}))
	refusal := func(f *treatyv1.Failure) *treatyv1.CompleteStepRequest_Refusal {
		return &treatyv1.CompleteStepRequest_Refusal{Refusal: f}
	}
	field := func(name string) failure {
		return failure{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field: name,
		}
	}
	about := func(name string) failure {
		f := field(name)
		f.saga = "sagas/a1"
		return f
	}
	for title, test := range map[string]struct {
		request *treatyv1.CompleteStepRequest
		err     error // of the engine
		want    failure
		says    string
	}{
		"no name": {
			&treatyv1.CompleteStepRequest{Direction: action, How: inspected}, nil, field("name"), "command id",
		},
		"a saga's name": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1", Direction: action, How: inspected}, nil, field("name"), "",
		},
		"no path": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/", Direction: action, How: inspected},
			nil,
			field("name"),
			"",
		},
		"broken path": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/1..2", Direction: action, How: inspected},
			nil,
			field("name"),
			"",
		},
		"long path": {
			&treatyv1.CompleteStepRequest{
				Name: "sagas/a1/steps/" + strings.Repeat("1", 600), Direction: action, How: inspected,
			},
			nil,
			field("name"),
			"",
		},
		"force without a person": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected, Force: true}, nil,
			about("force"), "decision",
		},
		"not accepted": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected},
			fmt.Errorf("%w x of step 2", engine.ErrNotAccepted), failure{
				code: codes.FailedPrecondition, saga: "sagas/a1",
				reason: treatyv1.ErrorReason_ERROR_REASON_NOT_ACCEPTED,
			}, "with force",
		},
		"reply without room for the undo": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected}, machine.ErrReplyTooLarge,
			about("reply"), "store the data elsewhere",
		},
		"no direction": {&treatyv1.CompleteStepRequest{Name: name, How: inspected}, nil, about("direction"), ""},
		"other direction": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: 7, How: inspected}, nil, about("direction"), "",
		},
		"no how": {&treatyv1.CompleteStepRequest{Name: name, Direction: action}, nil, about("how"), ""},
		"no reply": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: replied(nil)},
			nil,
			about("reply"),
			"PassportInspected",
		},
		"the compensation's reply": {
			&treatyv1.CompleteStepRequest{
				Name: name, Direction: action, How: replied(pack(t, &identityv1.InspectionDiscarded{})),
			}, nil, about("reply"), "want a acme.identity.v1.PassportInspected",
		},
		"the action's reply": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: compensation, How: inspected},
			nil,
			about("reply"),
			"InspectionDiscarded",
		},
		"unreadable": {
			&treatyv1.CompleteStepRequest{
				Name:      name,
				Direction: action,
				How:       replied(&anypb.Any{TypeUrl: "x/acme.identity.v1.PassportInspected", Value: []byte("\xff")}),
			}, nil, about("reply"), "",
		},
		"no code": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: refusal(&treatyv1.Failure{})},
			nil,
			about("refusal.code"),
			"",
		},
		"retriable": {
			&treatyv1.CompleteStepRequest{
				Name: name, Direction: action, How: refusal(&treatyv1.Failure{Code: int32(codes.Unavailable)}),
			},
			nil,
			about("refusal.code"),
			"FailedPrecondition",
		},
		"long message": {
			&treatyv1.CompleteStepRequest{
				Name:      name,
				Direction: action,
				How:       refusal(&treatyv1.Failure{Code: int32(codes.NotFound), Message: strings.Repeat("x", 5000)}),
			}, nil, about("refusal.message"), "",
		},
		"long details": {
			&treatyv1.CompleteStepRequest{
				Name:      name,
				Direction: action,
				How: refusal(
					&treatyv1.Failure{
						Code: int32(codes.NotFound), Details: []*anypb.Any{{Value: make([]byte, 300<<10)}},
					},
				),
			}, nil, about("refusal.details"), "",
		},
		"no such saga": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected},
			journal.ErrNotFound,
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND, saga: "sagas/a1"},
			"sagas/a1",
		},
		"no such step": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/9", Direction: action, How: inspected}, nil, failure{
				code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND, saga: "sagas/a1",
			}, "sagas/a1/steps/9",
		},
		"no compensation": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/1", Direction: compensation, How: inspected}, nil,
			failure{
				code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND, saga: "sagas/a1",
			}, "",
		},
		"no contract": {
			&treatyv1.CompleteStepRequest{Name: "sagas/a1/steps/3", Direction: action, How: inspected}, nil, failure{
				code: codes.Unimplemented, reason: treatyv1.ErrorReason_ERROR_REASON_CONTRACT_UNKNOWN, saga: "sagas/a1",
			}, "",
		},
		"a child saga": {
			&treatyv1.CompleteStepRequest{
				Name: "sagas/a1/steps/4", Direction: action, How: replied(pack(t, &identityv1.ApplicantConfirmed{})),
			}, nil,
			failure{
				code:   codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_STEP_IS_SAGA,
				saga:   "sagas/a1",
			}, "sagas/" + engine.ChildID(verifyApplicant, "sagas/a1/steps/4"),
		},
		"the undo of a child saga": {
			&treatyv1.CompleteStepRequest{
				Name:      "sagas/a1/steps/4",
				Direction: compensation,
				How:       replied(pack(t, &identityv1.VerifyApplicantUndone{})),
			}, nil,
			failure{
				code:   codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_STEP_IS_SAGA,
				saga:   "sagas/a1",
			}, "cancel or resume",
		},
		"a decision without a reason": {
			&treatyv1.CompleteStepRequest{
				Name: name, Direction: action, How: inspected, Decision: &treatyv1.Decision{Actor: "ada"},
			}, nil, failure{
				code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				saga: "sagas/a1", field: "decision.reason",
			}, "decision.reason",
		},
		"over": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected},
			wrapped(engine.ErrStepEnded, errSecret),
			failure{
				code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED, saga: "sagas/a1",
			},
			"",
		},
		"in doubt": {
			&treatyv1.CompleteStepRequest{Name: name, Direction: action, How: inspected},
			engine.ErrInDoubt,
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT, saga: "sagas/a1"},
			"",
		},
	} {
		t.Run(title, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.get = func(id string) (*treatyv1.Saga, error) { return inspecting(id), nil }
			a.engine.complete = func(engine.Completion) error {
				if test.err == nil {
					t.Error("the engine was called")
				}
				return test.err
			}
			_, err := a.sagas.CompleteStep(a.ctx(), test.request)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
			if !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Errorf("%v doesn't say %q", err, test.says)
			}
		})
	}
}

func TestHeartbeatStep(t *testing.T) {
	for name, test := range map[string]struct {
		request *treatyv1.HeartbeatStepRequest
		err     error
		want    failure
	}{
		"heard": {request: &treatyv1.HeartbeatStepRequest{Name: "sagas/a1/steps/r2.1", Direction: compensation}},
		"over": {
			&treatyv1.HeartbeatStepRequest{Name: "sagas/a1/steps/r2.1", Direction: compensation},
			engine.ErrStepEnded,
			failure{
				code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED, saga: "sagas/a1",
			},
		},
		"not there": {
			&treatyv1.HeartbeatStepRequest{Name: "sagas/a1/steps/r2.1", Direction: compensation},
			engine.ErrStepNotFound,
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND, saga: "sagas/a1"},
		},
		"unnamed": {
			&treatyv1.HeartbeatStepRequest{Direction: action},
			nil,
			failure{
				code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field: "name",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.heartbeat = func(saga, step string, direction engine.Direction) error {
				if saga != "a1" || step != "r2.1" || direction != engine.Compensation {
					t.Errorf("heartbeat of %s, %s, %s", saga, step, direction)
				}
				return test.err
			}
			_, err := a.sagas.HeartbeatStep(a.ctx(), test.request)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// TestPersonsReplyIsAnEvent completes a step with an event that nobody could await.
func TestPersonsReplyIsAnEvent(t *testing.T) {
	a := newTestServer(t)
	step := &treatyv1.Step{
		Name: "sagas/a1/steps/1", Method: "acme.customer.v1.CustomerService/ChangeAddress",
		CompensationMethod: "acme.customer.v1.CustomerService/RestoreAddress",
	}
	completed := false
	a.engine.get = func(string) (*treatyv1.Saga, error) {
		return &treatyv1.Saga{Name: "sagas/a1", Steps: []*treatyv1.Step{step}}, nil
	}
	a.engine.complete = func(engine.Completion) error { completed = true; return nil }
	for _, test := range []struct {
		reply    *customerv1.AddressChanged
		decision *treatyv1.Decision
		field    string // of the error; empty if the completion is taken
	}{
		{&customerv1.AddressChanged{}, &treatyv1.Decision{Actor: "ada", Reason: "seen"}, "reply.customer"},
		{&customerv1.AddressChanged{Customer: "customers/1"}, &treatyv1.Decision{Actor: "ada", Reason: "seen"}, ""},
		{&customerv1.AddressChanged{}, nil, ""},
	} {
		completed = false
		_, err := a.sagas.CompleteStep(a.ctx(), &treatyv1.CompleteStepRequest{
			Name: step.GetName(), Direction: action, How: replied(pack(t, test.reply)), Decision: test.decision,
		})
		if test.field == "" {
			if err != nil || !completed {
				t.Errorf("%v by %v: %v", test.reply, test.decision, err)
			}
			continue
		}
		if got := failureOf(t, err).field; got != test.field || completed {
			t.Errorf("%v by %v: field %q, completed %v", test.reply, test.decision, got, completed)
		}
	}
}
