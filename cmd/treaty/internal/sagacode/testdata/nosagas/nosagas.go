// Package nosagas sends a command, and has no saga.
package nosagas

import (
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Issue issues a card.
func Issue(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	return err
}
