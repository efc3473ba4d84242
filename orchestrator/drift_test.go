package orchestrator_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// drifting is what reflection says: what is linked, or another contract of the customer service.
type drifting struct {
	other atomic.Pointer[protoregistry.Files]
}

// FindFileByPath implements protodesc.Resolver.
func (d *drifting) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if other := d.other.Load(); other != nil {
		return other.FindFileByPath(path)
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (d *drifting) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if other := d.other.Load(); other != nil {
		return other.FindDescriptorByName(name)
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// drift changes the type of a field.
func (d *drifting) drift(t *testing.T, message, field string, to descriptorpb.FieldDescriptorProto_Type) {
	t.Helper()
	set, changed := new(descriptorpb.FileDescriptorSet), false
	protoregistry.GlobalFiles.RangeFiles(func(linked protoreflect.FileDescriptor) bool {
		file := protodesc.ToFileDescriptorProto(linked)
		for _, m := range file.GetMessageType() {
			for _, f := range m.GetField() {
				if file.GetPackage()+"."+m.GetName() == message && f.GetName() == field {
					f.Type, changed = &to, true
				}
			}
		}
		set.File = append(set.File, file)
		return true
	})
	files, err := protodesc.NewFiles(set)
	if err != nil || !changed {
		t.Fatalf("changing %s.%s: changed %t, %v", message, field, changed, err)
	}
	d.other.Store(files)
}

// reflectingParticipants starts the participants with reflection.
func reflectingParticipants(t *testing.T, address string, contracts *drifting) (*participants, *grpc.Server) {
	t.Helper()
	p := &participants{held: make(chan struct{}, 10)}
	s := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(s, p)
	cardv1.RegisterCardServiceServer(s, p)
	reflectionv1.RegisterServerReflectionServer(s,
		reflection.NewServerV1(reflection.ServerOptions{Services: s, DescriptorResolver: contracts}))
	p.address = testkit.ServeOn(t, s, address)
	return p, s
}

// TestDriftedParticipant starts a saga whose participant has another contract of the second step. The first step is
// sent, the second one isn't, and people see why. After the deployment the saga goes on.
func TestDriftedParticipant(t *testing.T) {
	contracts := new(drifting)
	contracts.drift(t, "acme.card.v1.ChangePostalAddressRequest", "address_revision",
		descriptorpb.FieldDescriptorProto_TYPE_STRING)
	p, server := reflectingParticipants(t, "127.0.0.1:0", contracts)
	w := unopened(t, p)
	w.open()
	request, err := anypb.New(move("drifted", "1 Main Street"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{
		Definition: changeAddress, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	for reason == "" {
		saga, err := w.sagas.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: created.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		if steps := saga.GetSteps(); len(steps) == 2 {
			reason = steps[1].GetAttempts().GetParkedReason()
		}
	}
	const place = "acme.card.v1.ChangePostalAddressRequest.address_revision (acme/card/v1/card_service.proto): "
	if !strings.HasPrefix(reason, place) {
		t.Errorf("the step is parked because %q, want %q", reason, place)
	}
	listed, err := w.sagas.ListParticipants(w.ctx(), &treatyv1.ListParticipantsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := listed.GetParticipants(); len(got) != 1 || !got[0].GetReachable() ||
		got[0].GetContracts() != treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED ||
		len(got[0].GetParkedMethods()) != 2 || len(got[0].GetDifferences()) != 1 ||
		len(got[0].GetDifferences()[0].GetMethods()) != 2 {
		t.Errorf("the participants are %v", got)
	}
	if seen := p.seen(); seen != "ChangeAddress" {
		t.Errorf("the participants got %s, want the first step only", seen)
	}

	server.Stop()
	contracts.other.Store(nil)
	repaired, _ := reflectingParticipants(t, p.address, contracts)
	saga, err := w.sagas.WaitSaga(w.ctx(), &treatyv1.WaitSagaRequest{Name: created.GetName()})
	if err != nil || saga.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Fatalf("after the deployment: %v, %v", saga.GetState(), err)
	}
	if seen := repaired.seen(); seen != "ChangePostalAddress" {
		t.Errorf("after the deployment the participants got %s", seen)
	}
}

// TestContractsOption tests what is wrong with the option.
func TestContractsOption(t *testing.T) {
	for _, test := range []struct {
		options []orchestrator.Option
		want    string
	}{
		{[]orchestrator.Option{orchestrator.WithContracts(customerService, "sometimes")},
			"want checked, strict or unchecked"},
		{[]orchestrator.Option{orchestrator.WithContracts("acme.none.v1.None", orchestrator.ContractsStrict)},
			"no participant is configured for it"},
		{[]orchestrator.Option{
			orchestrator.WithContracts(customerService, orchestrator.ContractsStrict),
			orchestrator.WithContracts(cardService, orchestrator.ContractsUnchecked),
		}, "choose one"},
		{[]orchestrator.Option{orchestrator.WithContracts(customerService, orchestrator.ContractsStrict)}, ""},
	} {
		_, err := orchestrator.New(append(test.options,
			orchestrator.WithParticipant(customerService, "127.0.0.1:7101"),
			orchestrator.WithParticipant(cardService, "127.0.0.1:7101"))...)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}
