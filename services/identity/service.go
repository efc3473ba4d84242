package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/identity/thirdparty"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// service implements the identity service as an ordinary gRPC service.
//
// Its commands have an effect that the inbox can't roll back: the registration at the register. So each command first
// goes to the register, with a key derived from the command id, and then into the inbox. After a crash in between, the
// next attempt gets the register's answer for the same key. An action that arrives after its compensation finds the key
// withdrawn. The register isn't called inside the transaction, because that would block all other commands.
type service struct {
	identityv1.UnimplementedIdentityServiceServer
	privacyv1.UnimplementedUserDataServiceServer

	store     *store
	register  *register
	inspector *inspector
}

var passport = regexp.MustCompile(`^[A-Z0-9]{6,9}$`)

// RegisterApplicant registers an applicant, at the register and here.
func (s *service) RegisterApplicant(
	ctx context.Context, r *identityv1.RegisterApplicantRequest,
) (*identityv1.ApplicantRegistered, error) {
	key := keyOf(ctx)
	applicant := &identityv1.Applicant{
		Name: nameOf(key), Customer: r.GetCustomer(), DisplayName: r.GetDisplayName(),
		PassportNumber: r.GetPassportNumber(),
	}
	gone, err := forgotten.Has(ctx, s.store.DB, r.GetCustomer())
	if err != nil {
		return nil, err
	}
	refused := check(r)
	if refused == nil && !gone {
		applicant.RegisterReference, err = s.register.put(ctx, key, thirdparty.Application{
			Name: r.GetDisplayName(), PassportNumber: r.GetPassportNumber(), Applicant: applicant.GetName(),
		})
		if refused, err = refusal(err); err != nil {
			return nil, unreachable(ctx, err)
		}
	}
	registered, err := inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*identityv1.ApplicantRegistered, error) {
		if refused != nil {
			return nil, refused
		}
		if err := forgotten.Refuse(ctx, tx, r.GetCustomer()); err != nil {
			return nil, err
		}
		if err := s.store.add(ctx, tx, key, applicant); err != nil {
			return nil, err
		}
		return &identityv1.ApplicantRegistered{Applicant: applicant.GetName(),
			RegisterReference: applicant.GetRegisterReference()}, nil
	})
	if participant.IsRefusal(status.Code(err)) {
		return nil, s.takeBack(ctx, key, r.GetCustomer(), err)
	}
	return registered, err
}

// takeBack returns the refusal of a registration. If the customer was forgotten while the register was called, takeBack
// first withdraws the registration there. If the process crashes in between, the command arrives again and takeBack
// withdraws it then.
func (s *service) takeBack(ctx context.Context, key, customer string, refused error) error {
	gone, err := forgotten.Has(ctx, s.store.DB, customer)
	if err != nil {
		return err
	}
	if gone {
		if err := s.register.withdraw(ctx, key); err != nil {
			return unreachable(ctx, err)
		}
	}
	return refused
}

// WithdrawApplicant undoes RegisterApplicant, at the register and here. It calls the register even if nothing is stored
// here: a process that crashed may have registered the applicant there.
func (s *service) WithdrawApplicant(
	ctx context.Context, r *identityv1.WithdrawApplicantRequest,
) (*identityv1.ApplicantWithdrawn, error) {
	if _, inSaga := participant.FromContext(ctx); !inSaga {
		return nil, status.Error(codes.InvalidArgument,
			"only the saga that registered an applicant can withdraw them: cancel the saga")
	}
	if err := s.register.withdraw(ctx, keyOf(ctx)); err != nil {
		return nil, unreachable(ctx, err)
	}
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*identityv1.ApplicantWithdrawn, error) {
		registered := r.GetReply()
		if registered == nil {
			registered = &identityv1.ApplicantRegistered{}
			if _, err := inbox.ActionReply(ctx, s.store.Inbox, tx, registered); err != nil {
				return nil, err
			}
		}
		return &identityv1.ApplicantWithdrawn{}, s.store.remove(ctx, tx, registered.GetApplicant())
	})
}

// GetApplicant returns one applicant.
func (s *service) GetApplicant(ctx context.Context, r *identityv1.GetApplicantRequest) (*identityv1.Applicant, error) {
	applicant, err := s.store.get(ctx, s.store.DB, r.GetName())
	if errors.Is(err, sqlitedb.ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "there is no %.80q", r.GetName())
	}
	return applicant, err
}

// ListApplicants lists applicants.
func (s *service) ListApplicants(
	ctx context.Context, r *identityv1.ListApplicantsRequest,
) (*identityv1.ListApplicantsResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	applicants, next, err := s.store.list(ctx, page)
	if err != nil {
		return nil, err
	}
	return &identityv1.ListApplicantsResponse{Applicants: applicants, NextPageToken: next}, nil
}

// keyOf returns the register's key for a command. It is the same for all attempts and for the compensation, and doesn't
// reveal the saga.
func keyOf(ctx context.Context) string {
	command, ok := participant.FromContext(ctx)
	if !ok {
		return "person-" + strings.ToLower(rand.Text())
	}
	sum := sha256.Sum256([]byte(command.CommandID))
	return "command-" + hex.EncodeToString(sum[:16])
}

// nameOf returns the name of the applicant who is registered under a key. It is known before the registration, because
// the register publishes its decision under this name.
func nameOf(key string) string {
	_, id, _ := strings.Cut(key, "-")
	return "applicants/" + id
}

// refusal returns the refusal that follows from a decision of the register. Other errors are returned as err.
func refusal(cause error) (refused, err error) {
	var rejected *rejectedError
	switch {
	case cause == nil:
		return nil, nil
	case errors.As(cause, &rejected):
		return participant.Refuse(codes.FailedPrecondition, "the register rejects the applicant",
			&identityv1.ApplicantRejected{Reason: rejected.reason}), nil
	case errors.Is(cause, errWithdrawn):
		return status.Error(codes.FailedPrecondition, errWithdrawn.Error()), nil
	default:
		return nil, cause
	}
}

// unreachable returns an error that leaves open whether the register did what it was asked.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	slog.WarnContext(ctx, "the register doesn't answer", "error", err)
	return status.Error(codes.Unavailable, "the register doesn't answer")
}

func check(r *identityv1.RegisterApplicantRequest) error {
	switch {
	case !strings.HasPrefix(r.GetCustomer(), "customers/") || len(r.GetCustomer()) > 100:
		return status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
	case strings.TrimSpace(r.GetDisplayName()) == "" || len(r.GetDisplayName()) > 200:
		return status.Error(codes.InvalidArgument, "display_name: want 1 to 200 bytes")
	case !passport.MatchString(r.GetPassportNumber()):
		return status.Error(codes.InvalidArgument, "passport_number: want 6 to 9 capital letters and digits")
	}
	return nil
}
