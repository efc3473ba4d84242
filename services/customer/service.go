package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/mail"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// service implements the customer service as an ordinary gRPC service.
type service struct {
	customerv1.UnimplementedCustomerServiceServer
	privacyv1.UnimplementedUserDataServiceServer

	store *store
}

// CreateCustomer creates a customer.
func (s *service) CreateCustomer(
	ctx context.Context, r *customerv1.CreateCustomerRequest,
) (*customerv1.CustomerCreated, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*customerv1.CustomerCreated, error) {
		if err := checkPerson(r); err != nil {
			return nil, err
		}
		if err := checkAddress(r.GetAddress()); err != nil {
			return nil, err
		}
		taken, err := s.store.emailTaken(ctx, tx, r.GetEmail())
		if err != nil {
			return nil, err
		}
		if taken {
			return nil, participant.Refuse(codes.AlreadyExists, "another customer has this e-mail address",
				&customerv1.EmailTaken{})
		}
		name := "customers/" + strings.ToLower(rand.Text())
		if err := s.store.add(ctx, tx, name, r); err != nil {
			return nil, err
		}
		return &customerv1.CustomerCreated{Customer: name, AddressRevision: 1}, nil
	})
}

// RemoveCustomer undoes CreateCustomer.
func (s *service) RemoveCustomer(
	ctx context.Context, r *customerv1.RemoveCustomerRequest,
) (*customerv1.CustomerRemoved, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*customerv1.CustomerRemoved, error) {
		created := r.GetReply()
		if created == nil {
			created = &customerv1.CustomerCreated{}
			if _, err := inbox.ActionReply(ctx, s.store.Inbox, tx, created); err != nil {
				return nil, err
			}
		}
		if created.GetCustomer() == "" {
			return nil, status.Error(codes.InvalidArgument, "reply.customer: say which customer to remove")
		}
		return &customerv1.CustomerRemoved{}, s.store.remove(ctx, tx, created.GetCustomer())
	})
}

// ChangeAddress changes where a customer lives.
func (s *service) ChangeAddress(
	ctx context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		if err := checkAddress(r.GetAddress()); err != nil {
			return nil, err
		}
		found, err := s.store.get(ctx, tx, r.GetCustomer())
		if err != nil {
			return nil, public(err, r.GetCustomer())
		}
		if found.closeTime != nil {
			return nil, participant.Refuse(codes.FailedPrecondition, r.GetCustomer()+" is closed",
				&customerv1.CustomerClosed{Customer: r.GetCustomer(), CloseTime: found.closeTime})
		}
		revision, err := s.store.addAddress(ctx, tx, r.GetCustomer(), r.GetAddress())
		if err != nil {
			return nil, err
		}
		return &customerv1.AddressChanged{Customer: r.GetCustomer(), AddressRevision: revision}, nil
	})
}

// RestoreAddress undoes ChangeAddress.
func (s *service) RestoreAddress(
	ctx context.Context, r *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*customerv1.AddressRestored, error) {
		changed := r.GetReply()
		if changed == nil {
			changed = &customerv1.AddressChanged{}
			if _, err := inbox.ActionReply(ctx, s.store.Inbox, tx, changed); err != nil {
				return nil, err
			}
		}
		if changed.GetCustomer() == "" || changed.GetAddressRevision() < 2 {
			return nil, status.Error(codes.InvalidArgument,
				"reply: say which customer's change of address to undo, by customer and address_revision")
		}
		return &customerv1.AddressRestored{}, s.store.undoAddress(ctx, tx, changed.GetCustomer(),
			changed.GetAddressRevision())
	})
}

// CloseCustomer closes a customer. A closed customer's address can't change.
func (s *service) CloseCustomer(ctx context.Context, r *customerv1.CloseCustomerRequest) (*customerv1.Customer, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*customerv1.Customer, error) {
		if err := s.store.end(ctx, tx, r.GetName()); err != nil {
			return nil, err
		}
		closed, err := s.store.get(ctx, tx, r.GetName())
		if err != nil {
			return nil, public(err, r.GetName())
		}
		return closed.customer, nil
	})
}

// GetCustomer returns one customer.
func (s *service) GetCustomer(ctx context.Context, r *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	found, err := s.store.get(ctx, s.store.DB, r.GetName())
	if err != nil {
		return nil, public(err, r.GetName())
	}
	return found.customer, nil
}

// ListCustomers lists customers.
func (s *service) ListCustomers(
	ctx context.Context, r *customerv1.ListCustomersRequest,
) (*customerv1.ListCustomersResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	customers, next, err := s.store.list(ctx, page)
	if err != nil {
		return nil, err
	}
	return &customerv1.ListCustomersResponse{Customers: customers, NextPageToken: next}, nil
}

// public turns sqlitedb.ErrNotFound into a status.
func public(err error, name string) error {
	if errors.Is(err, sqlitedb.ErrNotFound) {
		return status.Errorf(codes.NotFound, "there is no %.80q", name)
	}
	return err
}

func checkPerson(r *customerv1.CreateCustomerRequest) error {
	if n := len(strings.TrimSpace(r.GetDisplayName())); n == 0 || n > 200 {
		return status.Error(codes.InvalidArgument, "display_name: want 1 to 200 bytes")
	}
	if parsed, err := mail.ParseAddress(r.GetEmail()); err != nil || parsed.Address != r.GetEmail() ||
		len(r.GetEmail()) > 254 {
		return status.Error(codes.InvalidArgument, "email: want an address like ada@example.com")
	}
	return nil
}

func checkAddress(a *customerv1.Address) error {
	switch {
	case a == nil:
		return status.Error(codes.InvalidArgument, "address: missing")
	case len(a.GetLines()) == 0 || len(a.GetLines()) > 4:
		return status.Errorf(codes.InvalidArgument, "address.lines: want 1 to 4, got %d", len(a.GetLines()))
	case strings.TrimSpace(a.GetCity()) == "" || len(a.GetCity()) > 100:
		return status.Error(codes.InvalidArgument, "address.city: want 1 to 100 bytes")
	case len(a.GetPostalCode()) > 20:
		return status.Error(codes.InvalidArgument, "address.postal_code: want at most 20 bytes")
	case len(a.GetCountry()) != 2 || a.GetCountry() != strings.ToUpper(a.GetCountry()) ||
		strings.Trim(a.GetCountry(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return status.Error(codes.InvalidArgument, "address.country: want two capital letters of ISO 3166-1, e.g. NL")
	}
	for i, line := range a.GetLines() {
		if strings.TrimSpace(line) == "" || len(line) > 200 || strings.ContainsAny(line, "\r\n") {
			return status.Errorf(codes.InvalidArgument, "address.lines[%d]: want 1 to 200 bytes and no line break", i)
		}
	}
	return nil
}
