package server

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
)

// What is cut out of a compensation's request is what protobuf itself reads there.
func FuzzFieldIn(f *testing.F) {
	whole, err := proto.Marshal(&identityv1.UndoVerifyApplicantRequest{
		Action: &identityv1.VerifyApplicantRequest{Customer: "customers/ada"}, Reply: &identityv1.ApplicantConfirmed{Applicant: "applicants/1"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), whole...)) // split in two
	f.Add([]byte{0x0a, 0x05})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		request := new(identityv1.UndoVerifyApplicantRequest)
		if unmarshal.Unmarshal(data, request) != nil {
			return
		}
		cut, err := fieldIn(data, protowire.Number(1))
		if err != nil {
			t.Fatalf("%x can be read, and %v", data, err)
		}
		got, want := new(identityv1.VerifyApplicantRequest), request.GetAction()
		if want == nil {
			want = new(identityv1.VerifyApplicantRequest)
		}
		if err := proto.Unmarshal(cut, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("cut %v (%v), want %v", got, err, want)
		}
	})
}

// A command id that is read is written as it was.
func FuzzCommandID(f *testing.F) {
	for _, id := range []string{"sagas/a1/steps/2.1.4", "sagas/a1/steps/r2.1", "sagas/a1", "sagas/A/steps/1", "sagas/a/steps/1/steps/2", "sagas//steps/", "sagas/a/steps/1."} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		saga, step, ok := parseCommandID(id)
		if ok && (command{saga: saga, step: step}).id() != id {
			t.Errorf("%q was read as %q and %q", id, saga, step)
		}
	})
}
