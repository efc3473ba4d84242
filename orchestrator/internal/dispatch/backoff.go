package dispatch

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// misdeployedInterval is the shortest interval after an attempt whose outcome was misdeployed, which only a
// deployment can change. With jitter, the wait is at least 5 s, unless the policy's longest interval is shorter.
const misdeployedInterval = 10 * time.Second

// Delay returns how long to wait after an attempt, counted from 1, before the next one. The interval starts with the
// policy's initial interval and doubles up to the longest; half of it is jitter. If the participant asked for a
// longer wait, the result is that wait plus jitter, so that calls that were throttled at the same time don't return
// at the same time.
func (d *Dispatcher) Delay(call *contract.CallConfig, attempt int, answer engine.Answer) time.Duration {
	interval := Interval(call.Retry, attempt)
	if answer.Outcome == treatyv1.Outcome_OUTCOME_MISDEPLOYED {
		interval = max(interval, min(misdeployedInterval, maxInterval(call.Retry)))
	}
	half := interval / 2
	jitter := time.Duration(d.rand() * float64(interval-half))
	return max(half, answer.RetryAfter) + jitter
}

// Interval returns the wait after an attempt, counted from 1, by a retry policy and without jitter.
func Interval(retry contract.Retry, attempt int) time.Duration {
	longest := maxInterval(retry)
	wait := retry.InitialInterval
	if wait <= 0 {
		wait = contract.DefaultInitialInterval
	}
	for ; attempt > 1; attempt-- {
		if wait > longest/2 {
			return longest // doubling could overflow
		}
		wait *= 2
	}
	return min(wait, longest)
}

// maxInterval returns the policy's longest interval.
func maxInterval(retry contract.Retry) time.Duration {
	if retry.MaxInterval <= 0 {
		return contract.DefaultMaxInterval
	}
	return retry.MaxInterval
}
