package main

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/orchestrator/saga/sagatest"
)

// update makes go test -run TestExplore -update write the failure matrices.
var _ = flag.Bool("update", false, "write the failure matrices in testdata")

// registering makes the register publish its decision about an applicant.
func registering(w *sagatest.World) func(*sagatest.Saga) error {
	sagatest.Stub(w, identityv1.IdentityService_RegisterApplicant_FullMethodName,
		func(_ context.Context, in *identityv1.RegisterApplicantRequest) (*identityv1.ApplicantRegistered, error) {
			applicant := "applicants/of-" + in.GetCustomer()
			w.Publish(&identityv1.ApplicantVerified{Applicant: applicant, RegisterReference: "REG-1"})
			return &identityv1.ApplicantRegistered{Applicant: applicant}, nil
		})
	return nil
}

// registeringAll makes the register answer for each person of a family.
func registeringAll(w *sagatest.World) func(*sagatest.Saga) error {
	sagatest.Stub(w, customerv1.CustomerService_CreateCustomer_FullMethodName,
		func(_ context.Context, in *customerv1.CreateCustomerRequest) (*customerv1.CustomerCreated, error) {
			return &customerv1.CustomerCreated{Customer: "customers/" + in.GetDisplayName(), AddressRevision: 1}, nil
		})
	return registering(w)
}

// explore explores a saga: all of it, or only single faults with the race detector, for which make test runs the rest
// again without it.
func explore(t *testing.T, method string, request proto.Message, options ...sagatest.Option) {
	t.Helper()
	options = append(options, sagatest.Golden("testdata/"+method[strings.LastIndexByte(method, '/')+1:]+".matrix.md"))
	if raceDetector {
		options = append(options, sagatest.SingleFaults())
	}
	sagatest.Explore(t, register, method, request, options...)
}

func issuing() *cardv1.IssueCardSagaRequest {
	return &cardv1.IssueCardSagaRequest{
		RequestId: "card", Person: &cardv1.Person{DisplayName: "Ada"}, Product: "classic", LimitCents: 1000_00,
	}
}

func TestExploreIssueCard(t *testing.T) {
	t.Parallel()
	explore(t, cardv1.CardSagas_IssueCard_FullMethodName, issuing())
}

// checkedToday makes the credit service know a check of today that covers the limit.
func checkedToday(w *sagatest.World) func(*sagatest.Saga) error {
	sagatest.Stub(w, creditv1.CreditService_GetLastCheck_FullMethodName,
		func(context.Context, *creditv1.GetLastCheckRequest) (*creditv1.LastCheck, error) {
			return &creditv1.LastCheck{Check: &creditv1.Check{
				Name: "checks/today", ApprovedLimitCents: 2000_00, CheckTime: timestamppb.Now(),
			}}, nil
		})
	return nil
}

// TestExploreIssueCardToChecked explores the way of a person whose credit was checked today.
func TestExploreIssueCardToChecked(t *testing.T) {
	t.Parallel()
	sagatest.Explore(t, register, cardv1.CardSagas_IssueCard_FullMethodName, issuing(), sagatest.Setup(checkedToday),
		sagatest.SingleFaults(), sagatest.Golden("testdata/IssueCardToChecked.matrix.md"))
}

func TestExploreVerifyApplicant(t *testing.T) {
	t.Parallel()
	explore(t, identityv1.IdentitySagas_VerifyApplicant_FullMethodName,
		&identityv1.VerifyApplicantRequest{Customer: "customers/ada"}, sagatest.Setup(registering))
}

func TestExploreDeleteUserData(t *testing.T) {
	t.Parallel()
	explore(t, privacyv1.PrivacySagas_DeleteUserData_FullMethodName,
		&privacyv1.DeleteUserDataSagaRequest{RequestId: "forget", Customer: "customers/ada"})
}

func TestExploreReviewCustomer(t *testing.T) {
	t.Parallel()
	explore(t, customerv1.ReviewSagas_ReviewCustomer_FullMethodName,
		&customerv1.ReviewCustomerRequest{RequestId: "review", Customer: "customers/ada",
			Interval: durationpb.New(24 * time.Hour), RoundsLeft: new(int32(2))})
}

func TestExploreIssueFamilyCards(t *testing.T) {
	t.Parallel()
	explore(t, cardv1.FamilySagas_IssueFamilyCards_FullMethodName,
		&cardv1.IssueFamilyCardsRequest{
			RequestId: "family", Product: "gold", LimitCents: 10_000_00, Head: &cardv1.Person{DisplayName: "Ada"},
			Members: []*cardv1.Person{{DisplayName: "Ben"}}, CoolingOff: durationpb.New(time.Hour),
		}, sagatest.Setup(registeringAll), sagatest.RandomRuns(800))
}
