package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// checkHolds is how long a credit check holds. Until then, Acme relies on it instead of checking the person again.
const checkHolds = 24 * time.Hour

// decidesOnChecks returns whether a saga decides itself whether a check is needed. Sagas of the first version left that
// to the credit service, and continue as they began.
func decidesOnChecks(ctx saga.Context) bool {
	return saga.Version(ctx, "decide whether to check", 1) >= 1
}

// lastCheck returns the newest check of a person who needs one, or nil if there is none. Checks that this saga has
// filed for its own customer don't count.
func lastCheck(ctx saga.Context, need *creditv1.CheckCreditRequest) (*creditv1.Check, error) {
	last, err := creditv1saga.GetLastCheck(ctx, &creditv1.GetLastCheckRequest{
		NationalId: need.GetNationalId(), ExceptCustomer: need.GetCustomer(),
	})
	return last.GetCheck(), err
}

// passCheck ensures that a person can afford a limit, and returns the check that says so. Whether the last one will do
// is decided here. The credit service only knows how to check, and what is on file.
func passCheck(ctx saga.Context, last *creditv1.Check, need *creditv1.CheckCreditRequest) (string, error) {
	age := saga.Now(ctx).Sub(last.GetCheckTime().AsTime())
	if last != nil && age < checkHolds && last.GetApprovedLimitCents() >= need.GetRequestedLimitCents() {
		reused, err := creditv1saga.ReuseCheck(ctx, &creditv1.ReuseCheckRequest{
			Check: last.GetName(), Customer: need.GetCustomer(),
		})
		if status.Code(err) != codes.NotFound {
			return reused.GetCheck(), err
		}
		// The person of the check was forgotten a moment ago, so it can't be relied on.
	}
	checked, err := creditv1saga.CheckCredit(ctx, need)
	return checked.GetCheck(), err
}
