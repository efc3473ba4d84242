package main

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// service implements the credit service as an ordinary gRPC service.
type service struct {
	creditv1.UnimplementedCreditServiceServer
	privacyv1.UnimplementedUserDataServiceServer

	store *store
}

// highestLimitCents is the highest limit that anybody can get.
const highestLimitCents = 50_000_00

// affordable returns the highest limit that an income allows: a fifth of it, in steps of 100 euros.
func affordable(yearlyIncomeCents int64) int64 {
	const step = 100_00
	return min(yearlyIncomeCents/5/step*step, highestLimitCents)
}

var (
	nationalID   = regexp.MustCompile(`^[A-Za-z0-9-]{4,32}$`)
	customerName = regexp.MustCompile(`^customers/.{1,90}$`)
)

// CheckCredit checks whether a person can afford a credit limit.
func (s *service) CheckCredit(ctx context.Context, r *creditv1.CheckCreditRequest) (*creditv1.CreditChecked, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*creditv1.CreditChecked, error) {
		switch {
		case !nationalID.MatchString(r.GetNationalId()):
			return nil, status.Error(codes.InvalidArgument, "national_id: want 4 to 32 letters, digits and hyphens")
		case r.GetYearlyIncomeCents() < 0:
			return nil, status.Error(codes.InvalidArgument, "yearly_income_cents: want 0 or more")
		case r.GetRequestedLimitCents() <= 0:
			return nil, status.Error(codes.InvalidArgument, "requested_limit_cents: want more than 0")
		case r.GetCustomer() != "" && !customerName.MatchString(r.GetCustomer()):
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer} or nothing")
		}
		if err := forgotten.Refuse(ctx, tx, r.GetCustomer()); err != nil {
			return nil, err
		}
		limit := affordable(r.GetYearlyIncomeCents())
		if r.GetRequestedLimitCents() > limit {
			return nil, participant.Refuse(codes.FailedPrecondition, "the income is too low for the limit",
				&creditv1.CreditDeclined{RequestedLimitCents: r.GetRequestedLimitCents(), ApprovedLimitCents: limit})
		}
		check := &creditv1.Check{
			Name: newName(), NationalId: r.GetNationalId(), ApprovedLimitCents: limit,
			CheckTime: timestamppb.New(time.Now().Truncate(time.Microsecond)), Customer: r.GetCustomer(),
		}
		if err := s.store.add(ctx, tx, check); err != nil {
			return nil, err
		}
		return &creditv1.CreditChecked{Check: check.GetName(), ApprovedLimitCents: limit,
			CheckTime: check.GetCheckTime()}, nil
	})
}

// newName returns the resource name of a new check.
func newName() string { return "checks/" + strings.ToLower(rand.Text()) }

// AbandonCheck undoes CheckCredit.
func (s *service) AbandonCheck(ctx context.Context, r *creditv1.AbandonCheckRequest) (*creditv1.CheckAbandoned, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*creditv1.CheckAbandoned, error) {
		checked := r.GetReply()
		if checked == nil {
			checked = &creditv1.CreditChecked{}
			if _, err := inbox.ActionReply(ctx, s.store.Inbox, tx, checked); err != nil {
				return nil, err
			}
		}
		if checked.GetCheck() == "" {
			return nil, status.Error(codes.InvalidArgument, "reply.check: say which check to abandon")
		}
		return &creditv1.CheckAbandoned{}, s.store.abandon(ctx, tx, checked.GetCheck())
	})
}

// ReuseCheck files a copy of an earlier check for another customer. So all checks of a person can be found from any of
// the customers who are that person.
func (s *service) ReuseCheck(ctx context.Context, r *creditv1.ReuseCheckRequest) (*creditv1.CheckReused, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*creditv1.CheckReused, error) {
		if !customerName.MatchString(r.GetCustomer()) {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		if err := forgotten.Refuse(ctx, tx, r.GetCustomer()); err != nil {
			return nil, err
		}
		check, err := s.store.get(ctx, tx, r.GetCheck())
		if errors.Is(err, sqlitedb.ErrNotFound) || err == nil && isAnonymous(check) {
			return nil, status.Errorf(codes.NotFound, "there is no %.80q of a known person", r.GetCheck())
		}
		if err != nil {
			return nil, err
		}
		check.Name, check.Customer = newName(), r.GetCustomer()
		return &creditv1.CheckReused{Check: check.GetName()}, s.store.add(ctx, tx, check)
	})
}

// ReleaseCheck undoes ReuseCheck.
func (s *service) ReleaseCheck(ctx context.Context, r *creditv1.ReleaseCheckRequest) (*creditv1.CheckReleased, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*creditv1.CheckReleased, error) {
		reused := r.GetReply()
		if reused == nil {
			reused = &creditv1.CheckReused{}
			if _, err := inbox.ActionReply(ctx, s.store.Inbox, tx, reused); err != nil {
				return nil, err
			}
		}
		if reused.GetCheck() == "" {
			return nil, status.Error(codes.InvalidArgument, "reply.check: say which check to release")
		}
		return &creditv1.CheckReleased{}, s.store.remove(ctx, tx, reused.GetCheck())
	})
}

// GetLastCheck returns the newest check that a person passed.
func (s *service) GetLastCheck(ctx context.Context, r *creditv1.GetLastCheckRequest) (*creditv1.LastCheck, error) {
	check, err := s.store.last(ctx, r)
	if errors.Is(err, sqlitedb.ErrNotFound) {
		return &creditv1.LastCheck{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &creditv1.LastCheck{Check: check}, nil
}

// GetCheck returns one check.
func (s *service) GetCheck(ctx context.Context, r *creditv1.GetCheckRequest) (*creditv1.Check, error) {
	check, err := s.store.get(ctx, s.store.DB, r.GetName())
	if errors.Is(err, sqlitedb.ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "there is no %.80q", r.GetName())
	}
	return check, err
}

// ListChecks lists checks.
func (s *service) ListChecks(ctx context.Context, r *creditv1.ListChecksRequest) (*creditv1.ListChecksResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	checks, next, err := s.store.list(ctx, page)
	if err != nil {
		return nil, err
	}
	return &creditv1.ListChecksResponse{Checks: checks, NextPageToken: next}, nil
}
