package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
)

// service implements the notification service as an ordinary gRPC service.
type service struct {
	notificationv1.UnimplementedNotificationServiceServer
	privacyv1.UnimplementedUserDataServiceServer

	store *store
}

var (
	customerName = regexp.MustCompile(`^customers/.{1,90}$`)
	emailAddress = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
)

// SendWelcome sends a message by adding it to the outbox of a mail server, which is the table of messages.
func (s *service) SendWelcome(
	ctx context.Context, r *notificationv1.SendWelcomeRequest,
) (*notificationv1.WelcomeSent, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*notificationv1.WelcomeSent, error) {
		if command, ok := participant.FromContext(ctx); ok && command.Direction == participant.Compensation {
			return nil, status.Error(codes.FailedPrecondition, "a sent message can't be recalled")
		}
		if err := checkRecipient(r); err != nil {
			return nil, err
		}
		text := "Dear " + r.GetDisplayName() + ", welcome to Acme."
		if r.GetCardLastFour() != "" {
			text += " Your card ending in " + r.GetCardLastFour() + " is on its way."
		}
		m, err := s.send(ctx, tx, r, "Welcome to Acme", text)
		return &notificationv1.WelcomeSent{Message: m.GetName(), SendTime: m.GetSendTime()}, err
	})
}

// SendReview sends a message about a review.
func (s *service) SendReview(
	ctx context.Context, r *notificationv1.SendReviewRequest,
) (*notificationv1.ReviewSent, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*notificationv1.ReviewSent, error) {
		if err := checkRecipient(r); err != nil {
			return nil, err
		}
		if r.GetApprovedLimitCents() < 0 {
			return nil, status.Error(codes.InvalidArgument, "approved_limit_cents: want 0 or more")
		}
		text := "Dear " + r.GetDisplayName() + ", thank you for being with Acme."
		if r.GetApprovedLimitCents() > 0 {
			text += fmt.Sprintf(" You could have a limit of up to %d euros.", r.GetApprovedLimitCents()/100)
		}
		m, err := s.send(ctx, tx, r, "Your review at Acme", text)
		return &notificationv1.ReviewSent{Message: m.GetName(), SendTime: m.GetSendTime()}, err
	})
}

// recipient is the part that all requests to send a message share.
type recipient interface {
	GetCustomer() string
	GetDisplayName() string
	GetEmail() string
}

func checkRecipient(r recipient) error {
	switch {
	case !customerName.MatchString(r.GetCustomer()):
		return status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
	case !emailAddress.MatchString(r.GetEmail()) || len(r.GetEmail()) > 254:
		return status.Error(codes.InvalidArgument, "email: want an address like ada@example.com")
	case strings.TrimSpace(r.GetDisplayName()) == "" || len(r.GetDisplayName()) > 200:
		return status.Error(codes.InvalidArgument, "display_name: want 1 to 200 bytes")
	}
	return nil
}

func (s *service) send(
	ctx context.Context, tx *inbox.Tx, to recipient, subject, text string,
) (*notificationv1.Message, error) {
	if err := forgotten.Refuse(ctx, tx, to.GetCustomer()); err != nil {
		return nil, err
	}
	m := &notificationv1.Message{
		Name:     "messages/" + strings.ToLower(rand.Text()),
		Customer: to.GetCustomer(),
		Email:    to.GetEmail(),
		Subject:  subject,
		Text:     text,
		SendTime: timestamppb.New(time.Now().Truncate(time.Microsecond)),
	}
	return m, s.store.add(ctx, tx, m)
}

// DeleteUserData deletes the messages that a customer was sent.
func (s *service) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*privacyv1.UserDataDeleted, error) {
		if !customerName.MatchString(r.GetCustomer()) {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		if err := forgotten.Add(ctx, tx, r.GetCustomer()); err != nil {
			return nil, err
		}
		return forgotten.Delete(ctx, tx, r.GetCustomer(),
			forgotten.Deletion{Kind: "messages", Statement: `DELETE FROM messages WHERE customer = ?`})
	})
}

// ListMessages lists the messages that were sent.
func (s *service) ListMessages(
	ctx context.Context, r *notificationv1.ListMessagesRequest,
) (*notificationv1.ListMessagesResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken(), r.GetCustomer())
	if err != nil {
		return nil, err
	}
	messages, next, err := s.store.list(ctx, r.GetCustomer(), page)
	if err != nil {
		return nil, err
	}
	return &notificationv1.ListMessagesResponse{Messages: messages, NextPageToken: next}, nil
}
