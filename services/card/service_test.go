package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

func start(t *testing.T) cardv1.CardServiceClient {
	t.Helper()
	return cardv1.NewCardServiceClient(serve(t))
}

func serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	params := sqlitedb.Params{Path: filepath.Join(t.TempDir(), "card.db"), Migrations: migrations}
	opened, err := sqlitedb.OpenStore(t.Context(), params, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &store{opened}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		service := &service{store: store}
		cardv1.RegisterCardServiceServer(r, service)
		privacyv1.RegisterUserDataServiceServer(r, service)
	})
}

func postal(lines ...string) *cardv1.Postal {
	return &cardv1.Postal{Lines: lines, PostalCode: "2611 AA", City: "Delft", Country: "NL"}
}

func TestIssueCard(t *testing.T) {
	client := start(t)
	request := &cardv1.IssueCardRequest{
		Customer: "customers/1", Product: "classic", LimitCents: 500_00,
		Postal: postal("Oude Delft 1"), AddressRevision: 1,
	}
	issued, err := client.IssueCard(participanttest.Action(t.Context(), "s", 4), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.IssueCard(participanttest.Action(t.Context(), "s", 4), request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(issued, again, protocmp.Transform()); diff != "" {
		t.Errorf("the duplicate got another card (-first +second):\n%s", diff)
	}
	if _, err := client.IssueCard(t.Context(), request); err != nil {
		t.Errorf("a further card: %v", err)
	}
	cards, err := client.ListCards(t.Context(), &cardv1.ListCardsRequest{Customer: "customers/1"})
	if err != nil || len(cards.GetCards()) != 2 {
		t.Fatalf("cards: %v, %v; want two", cards, err)
	}
	card, err := client.GetCard(t.Context(), &cardv1.GetCardRequest{Name: issued.GetCard()})
	if err != nil {
		t.Fatal(err)
	}
	if n := card.GetNumber(); len(n) != 16 || n[12:] != issued.GetLastFour() || checkDigit(n[:15]) != int(n[15]-'0') {
		t.Errorf("card number %q, last four %q", n, issued.GetLastFour())
	}
	if _, err := client.GetCard(t.Context(),
		&cardv1.GetCardRequest{Name: "cards/none"}); status.Code(err) != codes.NotFound {
		t.Errorf("a card that doesn't exist: %v, want NOT_FOUND", err)
	}
}

func TestCheckDigit(t *testing.T) {
	for digits, want := range map[string]int{"7992739871": 3, "411111111111111": 1, "555555555555444": 4} {
		if got := checkDigit(digits); got != want {
			t.Errorf("checkDigit(%s) = %d, want %d", digits, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	client := start(t)
	box := []any{&cardv1.AddressNotServed{Reason: "cards are handed over against a signature, so not to a P.O. box"}}
	for _, test := range []struct {
		name     string
		change   func(*cardv1.IssueCardRequest)
		code     codes.Code
		rejected []any
	}{
		{"P.O. Box", func(r *cardv1.IssueCardRequest) { r.Postal = postal("c/o Ada", "P.O. Box 12") },
			codes.FailedPrecondition, box},
		{"PO Box", func(r *cardv1.IssueCardRequest) { r.Postal = postal("PO Box 12") }, codes.FailedPrecondition, box},
		{"po box", func(r *cardv1.IssueCardRequest) { r.Postal = postal("po box 12") }, codes.FailedPrecondition, box},
		{"post office box", func(r *cardv1.IssueCardRequest) { r.Postal = postal("Post Office Box 12") },
			codes.FailedPrecondition, box},
		{"limit", func(r *cardv1.IssueCardRequest) { r.LimitCents = 1 }, codes.OutOfRange,
			[]any{&cardv1.LimitNotOffered{Product: "classic", MinLimitCents: 100_00, MaxLimitCents: 5_000_00}}},
		{"product", func(r *cardv1.IssueCardRequest) { r.Product = "platinum" }, codes.InvalidArgument, nil},
		{"customer", func(r *cardv1.IssueCardRequest) { r.Customer = "" }, codes.InvalidArgument, nil},
		{"revision", func(r *cardv1.IssueCardRequest) { r.AddressRevision = 0 }, codes.InvalidArgument, nil},
		{"no address", func(r *cardv1.IssueCardRequest) { r.Postal = nil }, codes.InvalidArgument, nil},
		{"line break", func(r *cardv1.IssueCardRequest) { r.Postal = postal("A\nB") }, codes.InvalidArgument, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := &cardv1.IssueCardRequest{
				Customer: "customers/1", Product: "classic", LimitCents: 500_00,
				Postal: postal("Oude Delft 1"), AddressRevision: 1,
			}
			test.change(request)
			_, err := client.IssueCard(t.Context(), request)
			s := status.Convert(err)
			if s.Code() != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
			if diff := cmp.Diff(test.rejected, s.Details(), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("rejection (-want +got):\n%s", diff)
			}
			for _, line := range request.GetPostal().GetLines() {
				if strings.Contains(s.Proto().String(), line) {
					t.Errorf("the refusal is kept in the inbox, and holds a line of the address: %v", s.Proto())
				}
			}
		})
	}
	for _, street := range []string{"Boxtelseweg 1", "Depot Boxer Lane 2", "Hippo Boxwood Street"} {
		if err := checkPostal(postal(street)); err != nil {
			t.Errorf("%s: %v", street, err)
		}
	}
}

// TestCrossingChanges applies and undoes revisions in every order. The highest revision that isn't undone must count in
// each case.
func TestCrossingChanges(t *testing.T) {
	client := start(t)
	where := func(customer string) string {
		a, err := client.GetPostalAddress(t.Context(), &cardv1.GetPostalAddressRequest{Customer: customer})
		if status.Code(err) == codes.NotFound {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(a.GetPostal().GetLines(), "\n")
	}
	for _, test := range []struct{ customer, sequence, want string }{
		{"customers/1", "+2 +3", "three"},
		{"customers/2", "+3 +2", "three"},
		{"customers/3", "+3 +2 -3", "two"},
		{"customers/4", "+2 +3 -2", "three"},
		{"customers/5", "+2 -2", ""},
		{"customers/6", "-2 +2", ""},
	} {
		for op := range strings.FieldsSeq(test.sequence) {
			revision := int64(op[1] - '0')
			change := &cardv1.ChangePostalAddressRequest{
				Customer: test.customer, AddressRevision: revision,
				Postal: postal(map[int64]string{2: "two", 3: "three"}[revision]),
			}
			saga := strings.ReplaceAll(test.customer, "/", "-")
			var err error
			if op[0] == '+' {
				_, err = client.ChangePostalAddress(participanttest.Action(t.Context(), saga, int(revision)), change)
			} else {
				_, err = client.RestorePostalAddress(participanttest.Compensation(t.Context(), saga, int(revision)),
					&cardv1.RestorePostalAddressRequest{Action: change})
			}
			if late := test.customer == "customers/6" &&
				op[0] == '+'; late != (status.Code(err) == codes.FailedPrecondition) {
				t.Errorf("%s %s: %v", test.customer, op, err)
			}
		}
		if got := where(test.customer); got != test.want {
			t.Errorf("%s after %s: %q, want %q", test.customer, test.sequence, got, test.want)
		}
	}
	list, err := client.ListPostalAddresses(t.Context(), &cardv1.ListPostalAddressesRequest{})
	if err != nil || len(list.GetPostalAddresses()) != 4 {
		t.Errorf("postal addresses: %v, %v; want four", list, err)
	}
}
