package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// gilded applies for gold, with 10,000 euros for ada and 1,000 each for bob and eve.
func gilded() *cardv1.IssueFamilyCardsRequest {
	person := func(name string) *cardv1.Person {
		return &cardv1.Person{
			DisplayName: name, Email: name + "@example.com", PassportNumber: "AB12345", NationalId: name + "-1815",
		}
	}
	return &cardv1.IssueFamilyCardsRequest{
		RequestId: "family", Product: gold, LimitCents: 10_000_00,
		Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
		Head:   person("Ada"), Members: []*cardv1.Person{person("Bob"), person("Eve")},
		CoolingOff: durationpb.New(time.Millisecond),
	}
}

func granted(product string, limitCents int64) *cardv1.FamilyCardsGranted {
	card := func(name, lastFour string) *cardv1.FamilyCard {
		return &cardv1.FamilyCard{
			Card: "cards/" + name, LastFour: lastFour, Customer: "customers/" + name, Applicant: "applicants/" + name,
		}
	}
	return &cardv1.FamilyCardsGranted{
		Product: product, LimitCents: limitCents,
		Cards: []*cardv1.FamilyCard{card("ada", "0042"), card("bob", "0043"), card("eve", "0043")},
	}
}

// admitted are the commands before anybody's credit is checked.
func admitted(more map[string]int) map[string]int {
	return with(map[string]int{"action CreateCustomer": 3, "action RegisterApplicant": 3, "action InspectPassport": 3},
		more)
}

// dismissed are the commands of admitted and their compensations.
func dismissed(more map[string]int) map[string]int {
	return admitted(with(map[string]int{"compensation RemoveCustomer": 3, "compensation WithdrawApplicant": 3,
		"compensation DiscardInspection": 3}, more))
}

// with returns the commands of both.
func with(some, more map[string]int) map[string]int {
	all := maps.Clone(some)
	maps.Copy(all, more)
	return all
}

// eveOwesNothing declines a check.
func eveOwesNothing(t *testing.T) func(*creditv1.CheckCreditRequest) error {
	return func(r *creditv1.CheckCreditRequest) error {
		if r.GetCustomer() == "customers/eve" {
			return refused(t, &creditv1.CreditDeclined{})
		}
		return nil
	}
}

// goldIsSlow answers for a high limit only after the saga has stopped waiting for gold.
func goldIsSlow(r *creditv1.CheckCreditRequest) error {
	if r.GetRequestedLimitCents() > classicLimitCents {
		<-time.After(50 * time.Millisecond)
	}
	return nil
}

func TestIssueFamilyCards(t *testing.T) {
	issued := map[string]int{"action ChangePostalAddress": 1, "action IssueCard": 1, "action IssueExtraCard": 2,
		"action SendWelcome": 3}
	headAlone := granted(gold, 10_000_00)
	headAlone.Cards = headAlone.Cards[:1]
	for _, test := range []struct {
		name    string
		acme    *company
		change  func(*cardv1.IssueFamilyCardsRequest)
		granted *cardv1.FamilyCardsGranted
		carries func(error) bool
		want    map[string]int
	}{
		{
			name: "gold", acme: &company{decide: verified}, granted: granted(gold, 10_000_00),
			want: admitted(with(issued, map[string]int{"action GetLastCheck": 3, "action CheckCredit": 3})),
		},
		{
			name: "gold to people who were checked today", granted: granted(gold, 10_000_00),
			acme: &company{decide: verified, lastCheck: checked(time.Hour, 10_000_00)},
			want: admitted(with(issued, map[string]int{"action GetLastCheck": 3, "action ReuseCheck": 3})),
		},
		{
			name: "classic as asked", acme: &company{decide: verified}, granted: granted(classic, 1_000_00),
			change: func(r *cardv1.IssueFamilyCardsRequest) { r.Product, r.LimitCents = classic, 1_000_00 },
			want:   admitted(with(issued, map[string]int{"action GetLastCheck": 1, "action CheckCredit": 1})),
		},
		{
			name: "only to the head, as the members are forgotten during the saga", granted: headAlone,
			acme: &company{decide: verified,
				refusals: map[string]error{"IssueExtraCard": status.Error(codes.FailedPrecondition,
					"the customer was forgotten")}},
			want: admitted(with(issued, map[string]int{"action GetLastCheck": 3, "action CheckCredit": 3,
				"action SendWelcome": 1})),
		},
		{
			// Two people were checked for gold and their checks are abandoned. Then one is checked for classic.
			name: "classic because one was declined", acme: &company{decide: verified, credit: eveOwesNothing(t)},
			granted: granted(classic, 5_000_00),
			want: admitted(with(issued, map[string]int{"action GetLastCheck": 3, "action CheckCredit": 4,
				"compensation AbandonCheck": 2})),
		},
		{
			name: "refused by the card service",
			acme: &company{decide: verified, refusals: map[string]error{"IssueCard": refused(t,
				&cardv1.LimitNotOffered{})}}, carries: carries[*cardv1.LimitNotOffered],
			want: dismissed(map[string]int{
				"action GetLastCheck": 3, "action CheckCredit": 3, "action ChangePostalAddress": 1,
				"action IssueCard": 1, "compensation AbandonCheck": 3, "compensation RestorePostalAddress": 1,
			}),
		},
		{
			name: "with one member whom the register turns down", carries: carries[*identityv1.ApplicantTurnedDown],
			acme: &company{decide: func(applicant string) proto.Message {
				if applicant == "applicants/eve" {
					return turnedDown(applicant)
				}
				return verified(applicant)
			}},
			want: dismissed(nil),
		},
		{
			name: "impossible", acme: &company{},
			change:  func(r *cardv1.IssueFamilyCardsRequest) { r.Product = "platinum" },
			carries: func(err error) bool { return status.Code(err) == codes.InvalidArgument }, want: map[string]int{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := gilded()
			if test.change != nil {
				test.change(request)
			}
			got, err := cardv1.NewFamilySagasClient(open(t, test.acme)).IssueFamilyCards(t.Context(), request,
				grpc.WaitForReady(true))
			if test.carries != nil && !test.carries(err) {
				t.Errorf("got %v with the details %v, want the refusal with its rejection", err,
					status.Convert(err).Details())
			}
			if diff := cmp.Diff(test.granted, got, protocmp.Transform()); diff != "" {
				t.Errorf("the reply, with the error %v (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff(test.want, test.acme.counts()); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			checkPivot(t, test.acme.seen())
		})
	}
}

// checkPivot checks that only retriable commands follow the main card, and only compensatable ones precede it.
func checkPivot(t *testing.T, seen []string) {
	t.Helper()
	pivot := slices.Index(seen, "action IssueCard")
	for i, command := range seen {
		behind := strings.HasPrefix(command, "compensation ") || command == "action IssueExtraCard" ||
			command == "action SendWelcome"
		if pivot >= 0 && i != pivot && behind != (i > pivot) && !strings.HasSuffix(command, "AbandonCheck") {
			t.Errorf("%q is at place %d, the pivot at %d", command, i, pivot)
		}
	}
}

// TestGoldThatTakesTooLong checks a saga whose time for gold runs out. How many checks were sent by then depends on the
// machine.
func TestGoldThatTakesTooLong(t *testing.T) {
	acme := &company{decide: verified, credit: goldIsSlow}
	request := gilded()
	request.GoldWithin = durationpb.New(time.Millisecond)
	got, err := cardv1.NewFamilySagasClient(open(t, acme)).IssueFamilyCards(t.Context(), request,
		grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(granted(classic, classicLimitCents), got, protocmp.Transform()); diff != "" {
		t.Errorf("the reply (-want +got):\n%s", diff)
	}
	counts := acme.counts()
	if checks, abandoned := counts["action CheckCredit"], counts["compensation AbandonCheck"]; checks != abandoned+1 {
		t.Errorf("%d checks, of which %d were abandoned; want all of gold abandoned and one more", checks, abandoned)
	}
}

// TestThinkingBetterOfIt cancels the saga while its progress says that the family may still change its mind.
func TestThinkingBetterOfIt(t *testing.T) {
	acme := &company{decide: verified}
	sagas := treatyv1.NewSagaServiceClient(open(t, acme))
	request := gilded()
	request.CoolingOff = durationpb.New(14 * 24 * time.Hour)
	started, err := sagas.CreateSaga(t.Context(), &treatyv1.CreateSagaRequest{
		Definition: "acme.card.v1.FamilySagas/IssueFamilyCards", Request: packed(t, request),
		RequestId: request.GetRequestId(),
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	cooling := &cardv1.FamilyProgress{Stage: cardv1.FamilyStage_FAMILY_STAGE_COOLING_OFF, People: 3, Verified: 3}
	await(t, sagas, started.GetName(), func(s *treatyv1.Saga) bool {
		return proto.Equal(s.GetProgress(),
			packed(t, cooling))
	})
	if _, err := sagas.CancelSaga(t.Context(), &treatyv1.CancelSagaRequest{
		Name: started.GetName(), Decision: &treatyv1.Decision{Actor: "ada", Reason: "too expensive"},
	}); err != nil {
		t.Fatal(err)
	}
	ended, err := sagas.WaitSaga(t.Context(), &treatyv1.WaitSagaRequest{Name: started.GetName()})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		t.Errorf("the end: %v, %v; want COMPENSATED", ended.GetState(), err)
	}
	want := dismissed(map[string]int{
		"action GetLastCheck": 3, "action CheckCredit": 3, "action ChangePostalAddress": 1,
		"compensation AbandonCheck": 3, "compensation RestorePostalAddress": 1,
	})
	if diff := cmp.Diff(want, acme.counts()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}
