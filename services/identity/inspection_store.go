package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// inspection is an accepted inspection.
type inspection struct {
	name, applicant, commandID string
	due                        time.Time

	passport string // empty if the applicant no longer exists
}

// addInspection adds a pending inspection.
func (s *store) addInspection(ctx context.Context, tx *inbox.Tx, i *inspection) error {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO inspections (name, applicant, command_id, due_time) VALUES (?, ?, ?, ?)`,
		i.name, i.applicant, i.commandID, i.due.UnixMicro()); err != nil {
		return fmt.Errorf("adding an inspection: %w", err)
	}
	return nil
}

// removeInspection deletes the inspection that a command requested.
func (s *store) removeInspection(ctx context.Context, tx *inbox.Tx, commandID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM inspections WHERE command_id = ?`, commandID); err != nil {
		return fmt.Errorf("removing an inspection: %w", err)
	}
	return nil
}

// endInspection marks an inspection as completed.
func (s *store) endInspection(ctx context.Context, tx *inbox.Tx, commandID string, at time.Time) error {
	if _, err := tx.ExecContext(ctx, `UPDATE inspections SET inspect_time = ? WHERE command_id = ?`, at.UnixMicro(),
		commandID); err != nil {
		return fmt.Errorf("ending an inspection: %w", err)
	}
	return nil
}

// pendingInspections returns the inspections that aren't completed, by the id of the command that requested them.
func (s *store) pendingInspections(ctx context.Context) (found map[string]*inspection, err error) {
	rows, err := s.DB.QueryContext(ctx, `
		SELECT i.name, i.applicant, i.command_id, i.due_time, coalesce(a.passport_number, '')
		FROM inspections i LEFT JOIN applicants a ON a.name = i.applicant WHERE i.inspect_time IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("reading the pending inspections: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found = make(map[string]*inspection)
	for rows.Next() {
		var i inspection
		var due int64
		if err := rows.Scan(&i.name, &i.applicant, &i.commandID, &due, &i.passport); err != nil {
			return nil, fmt.Errorf("reading the pending inspections: %w", err)
		}
		i.due, found[i.commandID] = time.UnixMicro(due), &i
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the pending inspections: %w", err)
	}
	return found, nil
}

var inspectionRows = sqlitedb.Query[*identityv1.Inspection]{
	Kind:   "inspections",
	Select: `SELECT sequence, name, applicant, inspect_time FROM inspections`,
	Scan:   scanInspection,
}

func scanInspection(scan func(...any) error) (i *identityv1.Inspection, sequence int64, err error) {
	i = &identityv1.Inspection{}
	var inspected int64
	if err := scan(&sequence, &i.Name, &i.Applicant, &inspected); err != nil {
		return nil, 0, err
	}
	i.InspectTime = timestamppb.New(time.UnixMicro(inspected))
	return i, sequence, nil
}

// inspections returns one page of the completed inspections and the token of the next page.
func (s *store) inspections(ctx context.Context, page paging.Page) ([]*identityv1.Inspection, string, error) {
	return inspectionRows.Page(ctx, s.DB, page, `inspect_time IS NOT NULL`)
}
