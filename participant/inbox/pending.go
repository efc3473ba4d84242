package inbox

import (
	"context"
	"fmt"
	"time"

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
