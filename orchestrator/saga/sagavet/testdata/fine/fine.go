// Package fine has sagas without mistakes, which look similar to some that have them.
package fine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// errForeign is a package variable that nobody changes.
var errForeign = errors.New("the customer lives abroad")

// limits is a table that is complete when the program starts.
var limits = map[string]int64{"classic": 5_000_00}

func init() { limits["gold"] = 20_000_00 }

// Sagas implements sagas. What it was configured with doesn't change.
type Sagas struct {
	Country string
	Waits   time.Duration
}

// ChangeAddress changes an address by night, and tells the customer about it.
func (s *Sagas) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	if in.GetAddress().GetCountry() != s.Country {
		return nil, status.Error(codes.InvalidArgument, errForeign.Error())
	}
	night := saga.Now(ctx).Truncate(24 * time.Hour).Add(24 * time.Hour)
	if wait := time.Duration(saga.Rand(ctx).Int64N(int64(time.Hour))); wait > s.Waits {
		night = night.Add(wait)
	}
	saga.SleepUntil(ctx, night)
	changed, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{
		Customer: in.GetCustomer(), Address: in.GetAddress(),
	})
	if _, closed := saga.Rejection[*customerv1.CustomerClosed](err); closed {
		saga.Logger(ctx).Warn("the customer is closed")
		return &customerv1.AddressAgreed{Customer: in.GetCustomer()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("changing the address: %w", err)
	}
	return &customerv1.AddressAgreed{Address: in.GetAddress(), AddressRevision: changed.GetAddressRevision()}, nil
}

// IssueCard issues a card, and welcomes the customer by one of two ways.
func (s *Sagas) IssueCard(ctx saga.Context, in *cardv1.IssueCardSagaRequest) (*cardv1.CardGranted, error) {
	var customer *customerv1.CustomerCreated
	var existing *customerv1.Customer
	err := saga.All(ctx,
		func(ctx saga.Context) (err error) {
			customer, err = customerv1saga.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{Email: s.Country})
			return err
		},
		func(ctx saga.Context) (err error) {
			existing, err = customerv1saga.GetCustomer(ctx, &customerv1.GetCustomerRequest{})
			if status.Code(err) == codes.NotFound {
				return nil
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	card, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{
		Customer: customer.GetCustomer(), LimitCents: min(in.GetLimitCents(), limits[in.GetProduct()]),
	})
	if _, limit := saga.Rejection[*cardv1.LimitNotOffered](err); limit {
		if _, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{}); err != nil {
			return nil, err
		}
		return &cardv1.CardGranted{}, nil
	} else if err != nil {
		return nil, err
	}
	if existing == nil {
		_, err = notificationv1saga.SendWelcome(ctx, &notificationv1.SendWelcomeRequest{})
	} else {
		_, err = notificationv1saga.SendReview(ctx, &notificationv1.SendReviewRequest{})
	}
	if err != nil {
		return nil, err
	}
	return &cardv1.CardGranted{Card: card.GetCard()}, nil
}

// VerifyApplicant waits for a decision, in rounds.
func (s *Sagas) VerifyApplicant(
	ctx saga.Context, in *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	applicants := map[string]bool{in.GetCustomer(): true, saga.NewID(ctx): false}
	var names []string
	for name, wanted := range applicants {
		if wanted {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := new(strings.Builder)
	for _, name := range slices.Sorted(maps.Keys(applicants)) {
		fmt.Fprintln(text, name)
	}
	late := saga.After(s.Waits)
	for _, name := range names {
		decided := identityv1saga.NextApplicantVerified(name)
		if saga.First(ctx, decided, late) == late {
			return nil, status.Error(codes.DeadlineExceeded, text.String())
		}
		if err := s.inspect(ctx, name); err != nil {
			return nil, err
		}
	}
	next := proto.CloneOf(in)
	next.DisplayName = strings.TrimSpace(next.GetDisplayName())
	if next.GetDisplayName() != in.GetDisplayName() {
		return nil, saga.Restart(ctx, next)
	}
	return &identityv1.ApplicantConfirmed{}, nil
}

// inspect may fail without an end of the saga.
func (s *Sagas) inspect(ctx saga.Context, name string) error {
	err := saga.Try(ctx, func(ctx saga.Context) error {
		_, err := identityv1saga.InspectPassport(ctx, &identityv1.InspectPassportRequest{Applicant: name})
		return err
	}, saga.Within(s.Waits))
	if errors.Is(err, saga.ErrDeadline) {
		return nil
	}
	return err
}

var (
	_ cardv1saga.CardSagas         = (*Sagas)(nil)
	_ customerv1saga.CustomerSagas = (*Sagas)(nil)
	_ identityv1saga.IdentitySagas = (*Sagas)(nil)
)

// Server is a participant in the same program. It isn't saga code, so it may do what sagas must not do.
type Server struct {
	mutex sync.Mutex
	seen  map[string]time.Time
}

// Note remembers when something was seen.
func (s *Server) Note(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen[name] = time.Now()
}
