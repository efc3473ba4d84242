package childsaga_test

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// A child's id depends only on the command id, and is never one that a request id could lead to.
func TestID(t *testing.T) {
	const definition, command = "acme.identity.v1.IdentitySagas/VerifyApplicant", "sagas/a/steps/1"
	id := engine.ChildID(definition, command)
	if id != engine.ChildID(definition, command) {
		t.Error("two attempts find two children")
	}
	if id == engine.ChildID(definition, "sagas/a/steps/2") {
		t.Error("two steps have one child")
	}
	if id == engine.NewID(time.Time{}, "", definition, command) {
		t.Error("a client can choose a request id that leads to the child")
	}
}

func TestRefusal(t *testing.T) {
	tests := []struct{ code, want codes.Code }{
		{codes.FailedPrecondition, codes.FailedPrecondition},
		{codes.NotFound, codes.NotFound},
		{codes.Unavailable, codes.FailedPrecondition},
		{codes.Internal, codes.FailedPrecondition},
		{codes.Aborted, codes.FailedPrecondition},
		{codes.Canceled, codes.FailedPrecondition},
	}
	for _, test := range tests {
		failure := &treatyv1.Failure{Code: int32(test.code), Message: "no"}
		refusal := childsaga.Refusal(failure)
		if refusal.GetCode() != int32(test.want) {
			t.Errorf("%s: got code %d, want %s", test.code, refusal.GetCode(), test.want)
		}
		if test.code != test.want && len(refusal.GetDetails()) != 1 {
			t.Errorf("%s: the child's own status isn't among the details: %v", test.code, refusal)
		}
	}
}

// ActionRequest finds what protobuf itself reads in that field.
func FuzzActionRequest(f *testing.F) {
	whole, err := proto.Marshal(&identityv1.UndoVerifyApplicantRequest{
		Action: &identityv1.VerifyApplicantRequest{Customer: "customers/ada"},
		Reply:  &identityv1.ApplicantConfirmed{Applicant: "applicants/1"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), whole...)) // split in two
	f.Add([]byte{0x0a, 0x05})
	f.Add([]byte{})
	f.Add([]byte{0x12, 0x00})
	compensation := &contract.Compensation{ActionField: 1, ReplyField: 2}
	f.Fuzz(func(t *testing.T, data []byte) {
		request := new(identityv1.UndoVerifyApplicantRequest)
		if proto.Unmarshal(data, request) != nil {
			return
		}
		cut, err := childsaga.ActionRequest(compensation, data)
		if err != nil {
			t.Fatalf("%x can be read, and %v", data, err)
		}
		got, want := new(identityv1.VerifyApplicantRequest), request.GetAction()
		if want == nil {
			want = new(identityv1.VerifyApplicantRequest)
		}
		if err := proto.Unmarshal(cut, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("found %v (%v), want %v", got, err, want)
		}
		if found, err := childsaga.HasReply(compensation, data); err != nil || found != (request.GetReply() != nil) {
			t.Errorf("%x has a reply: %v, %v; want %v", data, found, err, request.GetReply() != nil)
		}
	})
}
