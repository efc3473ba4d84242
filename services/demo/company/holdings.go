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

// Holdings are the records of all participants, as their APIs show them.
type Holdings struct {
	Customers       []*customerv1.Customer
	Applicants      []*identityv1.Applicant
	Inspections     []*identityv1.Inspection
	Checks          []*creditv1.Check
	Cards           []*cardv1.Card
	PostalAddresses []*cardv1.PostalAddress
	Messages        []*notificationv1.Message
}

// pageSize is the size of a page of a list.
const pageSize = 1000

// page is the response of a list method.
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

// Holdings lists the records of all participants.
func (c *Company) Holdings(ctx context.Context) (h *Holdings, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("listing the records of the services: %w", err)
		}
	}()
	h = &Holdings{}
	if h.Customers, err = all(func(token string) (*customerv1.ListCustomersResponse, error) {
		return customerv1.NewCustomerServiceClient(c.Conn(Customer)).ListCustomers(ctx,
			&customerv1.ListCustomersRequest{PageSize: pageSize, PageToken: token})
	}, (*customerv1.ListCustomersResponse).GetCustomers); err != nil {
		return nil, err
	}
	identity := identityv1.NewIdentityServiceClient(c.Conn(Identity))
	if h.Applicants, err = all(func(token string) (*identityv1.ListApplicantsResponse, error) {
		return identity.ListApplicants(ctx, &identityv1.ListApplicantsRequest{PageSize: pageSize, PageToken: token})
	}, (*identityv1.ListApplicantsResponse).GetApplicants); err != nil {
		return nil, err
	}
	if h.Inspections, err = all(func(token string) (*identityv1.ListInspectionsResponse, error) {
		return identity.ListInspections(ctx, &identityv1.ListInspectionsRequest{PageSize: pageSize, PageToken: token})
	}, (*identityv1.ListInspectionsResponse).GetInspections); err != nil {
		return nil, err
	}
	if h.Checks, err = all(func(token string) (*creditv1.ListChecksResponse, error) {
		return creditv1.NewCreditServiceClient(c.Conn(Credit)).ListChecks(ctx,
			&creditv1.ListChecksRequest{PageSize: pageSize, PageToken: token})
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
		return notificationv1.NewNotificationServiceClient(c.Conn(Notification)).ListMessages(ctx,
			&notificationv1.ListMessagesRequest{PageSize: pageSize, PageToken: token})
	}, (*notificationv1.ListMessagesResponse).GetMessages)
	return h, err
}

// written is an address in either service's message.
type written interface {
	proto.Message
	GetLines() []string
	GetPostalCode() string
	GetCity() string
	GetCountry() string
}

// Line returns an address in one line. It returns "" for no address.
func Line(a written) string {
	if !a.ProtoReflect().IsValid() {
		return ""
	}
	town := strings.TrimSpace(a.GetPostalCode() + " " + a.GetCity())
	return strings.Join(append(slices.Clone(a.GetLines()), town), ", ")
}

// SameAddress reports whether two addresses are equal.
func SameAddress(a, b written) bool { return Line(a) == Line(b) && a.GetCountry() == b.GetCountry() }
