package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// patience is how long the orchestrator waits for a completion or a heartbeat before it sends an inspection again.
const patience = 30 * time.Second

// InspectPassport accepts an inspection. The inspector completes it later.
func (s *service) InspectPassport(
	ctx context.Context, r *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	reply, err := inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*identityv1.PassportInspected, error) {
		if _, err := s.store.get(ctx, tx, r.GetApplicant()); errors.Is(err, sqlitedb.ErrNotFound) {
			return nil, status.Errorf(codes.NotFound, "there is no %.80q", r.GetApplicant())
		} else if err != nil {
			return nil, err
		}
		command, _ := participant.FromContext(ctx) // Without a command, Pending is refused.
		if err := s.store.addInspection(ctx, tx, &inspection{
			name:      "inspections/" + strings.ToLower(rand.Text()),
			applicant: r.GetApplicant(),
			commandID: command.CommandID,
			due:       time.Now().Add(s.inspector.takes),
		}); err != nil {
			return nil, err
		}
		return nil, participant.Pending(patience)
	})
	if _, accepted := participant.IsPending(err); accepted {
		s.inspector.wake()
	}
	return reply, err
}

// DiscardInspection undoes InspectPassport, whether or not the inspection is complete.
func (s *service) DiscardInspection(
	ctx context.Context, _ *identityv1.DiscardInspectionRequest,
) (*identityv1.InspectionDiscarded, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*identityv1.InspectionDiscarded, error) {
		command, inSaga := participant.FromContext(ctx)
		if !inSaga {
			return nil, status.Error(codes.InvalidArgument,
				"only the saga that requested an inspection can discard it: cancel the saga")
		}
		return &identityv1.InspectionDiscarded{}, s.store.removeInspection(ctx, tx, command.CommandID)
	})
}

// ListInspections lists the completed inspections.
func (s *service) ListInspections(
	ctx context.Context, r *identityv1.ListInspectionsRequest,
) (*identityv1.ListInspectionsResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	inspections, next, err := s.store.inspections(ctx, page)
	if err != nil {
		return nil, err
	}
	return &identityv1.ListInspectionsResponse{Inspections: inspections, NextPageToken: next}, nil
}
