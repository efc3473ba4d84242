package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/services/participant"
	"github.com/treatyhq/treaty/services/participant/inbox"
	"github.com/treatyhq/treaty/services/participant/paging"
)

// service is the notification service: an ordinary gRPC server.
type service struct {
	notificationv1.UnimplementedNotificationServiceServer

	store *store
}

var (
	customerName = regexp.MustCompile(`^customers/.{1,90}$`)
	emailAddress = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
)

// SendWelcome sends a message by putting it into the outbox of a mail server, which is the table of messages.
func (s *service) SendWelcome(ctx context.Context, r *notificationv1.SendWelcomeRequest) (*notificationv1.WelcomeSent, error) {
	return inbox.Handle(ctx, s.store.inbox, func(tx *sql.Tx) (*notificationv1.WelcomeSent, error) {
		if command, ok := participant.FromContext(ctx); ok && command.Direction == participant.Compensation {
			return nil, status.Error(codes.FailedPrecondition, "a message that was sent can't be called back")
		}
		switch {
		case !customerName.MatchString(r.GetCustomer()):
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		case !emailAddress.MatchString(r.GetEmail()) || len(r.GetEmail()) > 254:
			return nil, status.Error(codes.InvalidArgument, "email: want an address like ada@example.com")
		case strings.TrimSpace(r.GetDisplayName()) == "" || len(r.GetDisplayName()) > 200:
			return nil, status.Error(codes.InvalidArgument, "display_name: want 1 to 200 bytes")
		}
		text := "Dear " + r.GetDisplayName() + ", welcome to Acme."
		if r.GetCardLastFour() != "" {
			text += " Your card ending in " + r.GetCardLastFour() + " is on its way."
		}
		m := &notificationv1.Message{
			Name:     "messages/" + strings.ToLower(rand.Text()),
			Customer: r.GetCustomer(),
			Email:    r.GetEmail(),
			Subject:  "Welcome to Acme",
			Text:     text,
			SendTime: timestamppb.New(time.Now().Truncate(time.Microsecond)),
		}
		if err := s.store.add(ctx, tx, m); err != nil {
			return nil, err
		}
		return &notificationv1.WelcomeSent{Message: m.GetName(), SendTime: m.GetSendTime()}, nil
	})
}

// ListMessages lists the messages that were sent.
func (s *service) ListMessages(ctx context.Context, r *notificationv1.ListMessagesRequest) (*notificationv1.ListMessagesResponse, error) {
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
