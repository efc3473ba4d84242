package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
)

// TestDeleteUserData checks that the command goes to all services that are configured for it, and to no others: two at
// first, and one more that joins later. None of them says by reflection what it serves.
func TestDeleteUserData(t *testing.T) {
	erased := func(participant, kind string) *privacyv1.ServiceErasure {
		return &privacyv1.ServiceErasure{
			Participant: participant, Erased: []*privacyv1.ErasedRecords{{Kind: kind, Deleted: 3}},
		}
	}
	two := []*privacyv1.ServiceErasure{erased("acme.card.v1.CardService", "cards"),
		erased("acme.notification.v1.NotificationService", "messages")}
	loyalty := served{privacyv1.UserDataService_ServiceDesc.ServiceName, func(r grpc.ServiceRegistrar) {
		privacyv1.RegisterUserDataServiceServer(r, userData{kind: "points"})
	}}
	for _, test := range []struct {
		name    string
		joining []served
		want    []*privacyv1.ServiceErasure
	}{
		{"by the services that store some", nil, two},
		{"and by a service that joined", []served{loyalty}, append(two[:2:2],
			erased("acme.privacy.v1.UserDataService", "points"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			acme := &company{}
			forgotten, err := privacyv1.NewPrivacySagasClient(open(t, acme,
				test.joining...)).DeleteUserData(t.Context(),
				&privacyv1.DeleteUserDataSagaRequest{RequestId: "forget", Customer: "customers/ada"},
				grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			want := &privacyv1.UserForgotten{Customer: "customers/ada", Services: test.want}
			if diff := cmp.Diff(want, forgotten, protocmp.Transform()); diff != "" {
				t.Errorf("the reply (-want +got):\n%s", diff)
			}
			if got := acme.counts()["action DeleteUserData"]; got != len(test.want) {
				t.Errorf("%d commands came, want %d", got, len(test.want))
			}
		})
	}
}

func TestDeleteUserDataOfNobody(t *testing.T) {
	acme := &company{}
	_, err := privacyv1.NewPrivacySagasClient(open(t, acme)).DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataSagaRequest{RequestId: "forget", Customer: "Ada"}, grpc.WaitForReady(true))
	if status.Code(err) != codes.InvalidArgument || len(acme.seen()) != 0 {
		t.Errorf("got %v, and the commands %v; want INVALID_ARGUMENT and none", err, acme.seen())
	}
}
