// Package shared has functions that sagas of other packages call.
package shared

import (
	"os"
	"time"

	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Issue sends a pivot.
func Issue(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	return err
}

// Create sends a compensatable command.
func Create(ctx saga.Context) error {
	_, err := customerv1saga.CreateCustomer(ctx, nil)
	return err
}

// Late reads the clock, by another function.
func Late(deadline time.Time) bool { return now().After(deadline) }

func now() time.Time { return time.Now() }

// Region reads the environment.
func Region() string { return os.Getenv("REGION") }

// Started reads the clock, and says why that is fine.
func Started() time.Time {
	return time.Now() //treaty:allow it is only shown
}

// Rules are methods that sagas call.
type Rules struct{}

// Open reads a file.
func (*Rules) Open() ([]byte, error) { return os.ReadFile("rules") }
