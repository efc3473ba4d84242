package company

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
)

// Holdings is what all participants hold, as their own APIs show it.
type Holdings struct {
	Customers       []*customerv1.Customer
	Applicants      []*identityv1.Applicant
	Checks          []*creditv1.Check
	Cards           []*cardv1.Card
	PostalAddresses []*cardv1.PostalAddress
	Messages        []*notificationv1.Message
}

// pageSize is how much is asked for at once.
const pageSize = 1000

// page is an answer to a list call.
type page interface{ GetNextPageToken() string }

// all collects the pages of a list.
func all[P page, R any](list func(token string) (P, error), results func(P) []R) (found []R, err error) {
	for token := ""; ; {
		p, err := list(token)
		if err != nil {
			return nil, err
		}
		found = append(found, results(p)...)
		if token = p.GetNextPageToken(); token == "" {
			return found, nil
		}
	}
}

// Holdings asks all participants what they hold.
func (c *Company) Holdings(ctx context.Context) (h *Holdings, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking the services what they hold: %w", err)
		}
	}()
	h = &Holdings{}
	if h.Customers, err = all(func(token string) (*customerv1.ListCustomersResponse, error) {
		return customerv1.NewCustomerServiceClient(c.Conn(Customer)).ListCustomers(ctx, &customerv1.ListCustomersRequest{PageSize: pageSize, PageToken: token})
	}, (*customerv1.ListCustomersResponse).GetCustomers); err != nil {
		return nil, err
	}
	if h.Applicants, err = all(func(token string) (*identityv1.ListApplicantsResponse, error) {
		return identityv1.NewIdentityServiceClient(c.Conn(Identity)).ListApplicants(ctx, &identityv1.ListApplicantsRequest{PageSize: pageSize, PageToken: token})
	}, (*identityv1.ListApplicantsResponse).GetApplicants); err != nil {
		return nil, err
	}
	if h.Checks, err = all(func(token string) (*creditv1.ListChecksResponse, error) {
		return creditv1.NewCreditServiceClient(c.Conn(Credit)).ListChecks(ctx, &creditv1.ListChecksRequest{PageSize: pageSize, PageToken: token})
	}, (*creditv1.ListChecksResponse).GetChecks); err != nil {
		return nil, err
	}
	cards := cardv1.NewCardServiceClient(c.Conn(Card))
	if h.Cards, err = all(func(token string) (*cardv1.ListCardsResponse, error) {
		return cards.ListCards(ctx, &cardv1.ListCardsRequest{PageSize: pageSize, PageToken: token})
	}, (*cardv1.ListCardsResponse).GetCards); err != nil {
		return nil, err
	}
	if h.PostalAddresses, err = all(func(token string) (*cardv1.ListPostalAddressesResponse, error) {
		return cards.ListPostalAddresses(ctx, &cardv1.ListPostalAddressesRequest{PageSize: pageSize, PageToken: token})
	}, (*cardv1.ListPostalAddressesResponse).GetPostalAddresses); err != nil {
		return nil, err
	}
	h.Messages, err = all(func(token string) (*notificationv1.ListMessagesResponse, error) {
		return notificationv1.NewNotificationServiceClient(c.Conn(Notification)).ListMessages(ctx, &notificationv1.ListMessagesRequest{PageSize: pageSize, PageToken: token})
	}, (*notificationv1.ListMessagesResponse).GetMessages)
	return h, err
}

// Disagreements says where two services hold what can't both be true. Every customer lives where their cards are posted to, and whoever
// is known to one service beyond the first is a customer with all that belongs to a card.
func (h *Holdings) Disagreements() []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	customers := make(map[string]*customerv1.Customer)
	for _, c := range h.Customers {
		customers[c.GetName()] = c
	}
	posted := make(map[string]bool)
	for _, p := range h.PostalAddresses {
		posted[p.GetCustomer()] = true
		c := customers[p.GetCustomer()]
		switch {
		case c == nil:
			add("card posts to %s, whom customer doesn't know", p.GetCustomer())
		case !SameAddress(c.GetAddress(), p.GetPostal()) || c.GetAddressRevision() != p.GetAddressRevision():
			add("%s lives at %q (revision %d) at customer, and gets letters at %q (revision %d) at card", c.GetName(),
				Line(c.GetAddress()), c.GetAddressRevision(), Line(p.GetPostal()), p.GetAddressRevision())
		}
	}
	cards, applicants, welcomes := make(map[string]int), make(map[string]int), make(map[string]int)
	for _, c := range h.Cards {
		cards[c.GetCustomer()]++
	}
	for _, a := range h.Applicants {
		applicants[a.GetCustomer()]++
	}
	for _, m := range h.Messages {
		welcomes[m.GetCustomer()]++
	}
	for _, who := range [...]map[string]int{cards, applicants, welcomes} {
		for customer := range who {
			if customers[customer] == nil {
				add("%s has %d cards, %d applicants and %d messages, and customer doesn't know them", customer, cards[customer], applicants[customer], welcomes[customer])
			}
		}
	}
	for _, c := range h.Customers {
		n := c.GetName()
		if cards[n] != applicants[n] || cards[n] != welcomes[n] || cards[n] > 1 {
			add("%s has %d cards, %d applicants and %d messages", n, cards[n], applicants[n], welcomes[n])
		}
		if !posted[n] && (cards[n] > 0 || c.GetAddressRevision() > 1) {
			add("%s lives at %q (revision %d) at customer, and card knows no address", n, Line(c.GetAddress()), c.GetAddressRevision())
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// written is an address in either service's words.
type written interface {
	proto.Message
	GetLines() []string
	GetPostalCode() string
	GetCity() string
	GetCountry() string
}

// Line is an address in one line; empty for none.
func Line(a written) string {
	if !a.ProtoReflect().IsValid() {
		return ""
	}
	town := strings.TrimSpace(a.GetPostalCode() + " " + a.GetCity())
	return strings.Join(append(slices.Clone(a.GetLines()), town), ", ")
}

// SameAddress says whether both services mean the same place.
func SameAddress(a, b written) bool { return Line(a) == Line(b) && a.GetCountry() == b.GetCountry() }
