package notification_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// texts returns the messages to a customer, or to everybody if the customer is empty.
func texts(t *testing.T, p *process, customer string) (all []string) {
	t.Helper()
	list, err := p.ListMessages(t.Context(), &notificationv1.ListMessagesRequest{Customer: customer})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.GetMessages() {
		all = append(all, m.GetSubject()+": "+m.GetText())
	}
	return all
}

// TestReviewsAndUserData makes the same calls to both twins.
func TestReviewsAndUserData(t *testing.T) {
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			p := start(t, build(t), filepath.Join(t.TempDir(), "notification.db"))
			review := func(customer string, limit int64) *notificationv1.SendReviewRequest {
				return &notificationv1.SendReviewRequest{
					Customer: customer, DisplayName: "Ada", Email: "ada@example.com", ApprovedLimitCents: limit,
				}
			}
			for i, r := range []*notificationv1.SendReviewRequest{review("customers/1", 2_500_99),
				review("customers/1", 0), review("customers/2", 0)} {
				for range 2 {
					if _, err := p.SendReview(participanttest.Action(t.Context(), "r", i+1), r); err != nil {
						t.Fatal(err)
					}
				}
			}
			const plain = "Your review at Acme: Dear Ada, thank you for being with Acme."
			if diff := cmp.Diff([]string{plain + " You could have a limit of up to 2500 euros.", plain},
				texts(t, p, "customers/1")); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			for _, bad := range []*notificationv1.SendReviewRequest{review("customers/1", -1), review("", 0)} {
				if _, err := p.SendReview(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
					t.Errorf("SendReview of %v: %v, want INVALID_ARGUMENT", bad, err)
				}
			}
			checkDeletion(t, p)
			if _, err := p.SendReview(participanttest.Action(t.Context(), "late", 1),
				review("customers/1", 0)); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("a review for a forgotten customer: %v, want FAILED_PRECONDITION", err)
			}
			if _, err := p.SendWelcome(participanttest.Action(t.Context(), "late", 2),
				welcome()); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("a welcome for a forgotten customer: %v, want FAILED_PRECONDITION", err)
			}
			if diff := cmp.Diff([]string{plain}, texts(t, p, "")); diff != "" {
				t.Errorf("what is left (-want +got):\n%s", diff)
			}
		})
	}
}

// checkDeletion deletes the two messages to customers/1, then sends a duplicate, then deletes when nothing is left.
func checkDeletion(t *testing.T, p *process) {
	t.Helper()
	two := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "messages", Deleted: 2}}}
	for i, call := range []struct {
		step int
		want *privacyv1.UserDataDeleted
	}{{1, two}, {1, two}, {2, &privacyv1.UserDataDeleted{}}} {
		got, err := p.privacy.DeleteUserData(participanttest.Action(t.Context(), "d", call.step),
			&privacyv1.DeleteUserDataRequest{Customer: "customers/1"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(call.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deletion %d (-want +got):\n%s", i, diff)
		}
	}
	if _, err := p.privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{Customer: "Ada"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting of no customer: %v, want INVALID_ARGUMENT", err)
	}
	health, err := p.health.Check(t.Context(),
		&healthgrpc.HealthCheckRequest{Service: "acme.privacy.v1.UserDataService"})
	if err != nil || health.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
}
