package server_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// refusedSaga has a refused step, whose text saga code has passed on, a scope that ended so, and a compensation that
// was refused.
func refusedSaga(id string) *treatyv1.Saga {
	failure := func(text string) *treatyv1.Failure {
		declared, undeclared := new(anypb.Any), new(anypb.Any)
		_ = declared.MarshalFrom(&cardv1.AddressNotServed{Reason: "declared"})
		_ = undeclared.MarshalFrom(&treatyv1.Failure{Message: text})
		return &treatyv1.Failure{Code: 9, Message: text, Details: []*anypb.Any{declared, undeclared}}
	}
	const failed = treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED
	return &treatyv1.Saga{
		Name: "sagas/" + id, Definition: issueCard, Cause: failed, Failure: failure("the secret of the saga"),
		Steps: []*treatyv1.Step{
			{
				Name: "sagas/" + id + "/steps/1", Method: "acme.identity.v1.IdentityService/RegisterApplicant",
				State:   treatyv1.StepState_STEP_STATE_REFUSED,
				Failure: failure("the secret of the step"),
			},
			{
				Name: "sagas/" + id + "/steps/2", Method: "acme.card.v1.CardService/ChangePostalAddress",
				CompensationMethod: "acme.card.v1.CardService/RestorePostalAddress",
				State:              treatyv1.StepState_STEP_STATE_UNKNOWN,
				Failure:            failure("the text of an unknown outcome"),
			},
		},
		Scopes: []*treatyv1.Scope{
			{Scope: "3", Cause: failed, Failure: failure("the secret of the scope")},
			{
				Scope: "4", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
				Failure: failure("the deadline"),
			},
		},
		Suspension: &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, Step: "2",
			Failure: failure("the secret of the compensation"),
			Message: "it failed: the secret of the step", Found: "the code returned: the secret of the saga",
		},
	}
}

// TestRefusalTexts reads a saga and its journal with the right to read secrets and without.
func TestRefusalTexts(t *testing.T) {
	records := []*treatyv1.Record{
		{Kind: &treatyv1.Record_SagaStarted{SagaStarted: &treatyv1.SagaStarted{Definition: issueCard}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
			Step: "1", Method: "acme.identity.v1.IdentityService/RegisterApplicant",
		}}},
		{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
			Step: "1", Failure: &treatyv1.Failure{Code: 9, Message: "the secret of the step"},
		}}},
		{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: &treatyv1.CompensationDecided{
			Cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			Failure: &treatyv1.Failure{Code: 9, Message: "the secret of the saga"},
		}}},
	}
	turn := &treatyv1.Turn{Records: records}
	for _, test := range []struct {
		name    string
		rules   *authorizer
		secrets bool
	}{
		{"without an authorizer", nil, true},
		{"with the right", newAuthorizer(everything), true},
		{"without the right", newAuthorizer(func(r access.Request) bool {
			return r.Action != access.ReadSecrets
		}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var rules security
			if test.rules != nil {
				rules.authorizer = test.rules
			}
			a := newSecureTestServer(t, rules)
			a.engine.get = func(id string) (*treatyv1.Saga, error) { return refusedSaga(id), nil }
			a.store.turns = []*treatyv1.Turn{proto.CloneOf(turn)}
			saga, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"})
			if err != nil {
				t.Fatal(err)
			}
			listed, err := a.sagas.ListSagaRecords(a.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: "sagas/a1"})
			if err != nil {
				t.Fatal(err)
			}
			for what, message := range map[string]proto.Message{"the saga": saga, "its journal": listed} {
				text := prototext.Format(message)
				if strings.Contains(text, "secret") != test.secrets {
					t.Errorf("%s is %s", what, text)
				}
				if strings.Contains(text, "[REDACTED]") == test.secrets {
					t.Errorf("%s says nothing of what is hidden: %s", what, text)
				}
			}
			if text := prototext.Format(saga); !strings.Contains(text, "the deadline") ||
				!strings.Contains(text, "declared") || !strings.Contains(text, "the text of an unknown outcome") {
				t.Errorf("too much is hidden: %s", text)
			}
		})
	}
}

// TestSafeRefusals hides the texts of refusals by a method whose contract says that they are safe, and by one whose
// contract doesn't.
func TestSafeRefusals(t *testing.T) {
	command := func(name string, safe bool) *descriptorpb.MethodDescriptorProto {
		options := &descriptorpb.MethodOptions{}
		proto.SetExtension(options, treatyv1.E_Command, &treatyv1.Command{
			Kind: &treatyv1.Command_Pivot{Pivot: &treatyv1.Pivot{}}, SafeRefusals: safe,
		})
		return &descriptorpb.MethodDescriptorProto{
			Name: new(name), InputType: new(".shop.Order"), OutputType: new(".shop.Order"), Options: options,
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("shop.proto"), Package: new("shop"), Syntax: new("proto3"),
		Dependency:  []string{"treaty/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Order")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("Shop"),
			Method: []*descriptorpb.MethodDescriptorProto{
				command("Safe", true), command("Other", false),
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
	catalog, err := contract.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]string{"shop.Shop/Safe": "sold out", "shop.Shop/Other": "[REDACTED]"} {
		saga := &treatyv1.Saga{
			Name: "sagas/a1", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			Failure: &treatyv1.Failure{Message: "sold out"},
			Steps: []*treatyv1.Step{{
				Name: "sagas/a1/steps/1", Method: method, State: treatyv1.StepState_STEP_STATE_REFUSED,
				Failure: &treatyv1.Failure{Message: "sold out"},
			}},
		}
		server.HideTexts(catalog, saga)
		if step, end := saga.GetSteps()[0].GetFailure().GetMessage(), saga.GetFailure().GetMessage(); step != want ||
			end != want {
			t.Errorf("%s: the step says %q, and the saga %q, want %q", method, step, end, want)
		}
	}
}
