package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// PendingCommand is a command that was accepted and is not completed yet.
type PendingCommand struct {
	// Command is the command as it first arrived.
	Command participant.Command

	// Method is the called method, "/package.Service/Method". It is empty if the handler wasn't called over gRPC.
	Method string

	// Wait is the time given to participant.Pending: how long the orchestrator waits for a completion or a heartbeat.
	Wait time.Duration

	// AcceptTime is when the command was accepted.
	AcceptTime time.Time
}

// Pending returns the accepted commands that have been neither completed nor compensated, oldest first. After a
// restart, a service continues with them. Anything else that it needs to know about a command must be in its own
// tables, where the handler that accepted the command stored it.
func Pending(ctx context.Context, in *Inbox) ([]PendingCommand, error) {
	found, err := in.ledger.accepted(ctx, in.db)
	if err != nil {
		return nil, fmt.Errorf("listing pending commands: %w", err)
	}
	return found, nil
}

// pendingCommands reads the accepted commands from the table, which is the same in all kinds of databases.
func pendingCommands(ctx context.Context, db *sql.DB) (found []PendingCommand, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT command_id, direction, method, epoch, attempt, reply, executed_at FROM treaty_inbox AS a
		WHERE verdict = 'accepted' AND (direction = 'compensation' OR NOT EXISTS (
			SELECT 1 FROM treaty_inbox AS c WHERE c.command_id = a.command_id AND c.direction = 'compensation'))
		ORDER BY sequence`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e entry
		var micros int64
		if err := rows.Scan(&e.command.CommandID, &e.command.Direction, &e.method, &e.command.Epoch, &e.command.Attempt,
			&e.answer, &micros); err != nil {
			return nil, err
		}
		e.command.Saga, _, _ = wire.SplitStep(e.command.CommandID)
		found = append(found, PendingCommand{
			Command: e.command, Method: e.method, Wait: e.wait(), AcceptTime: time.UnixMicro(micros),
		})
	}
	return found, rows.Err()
}
