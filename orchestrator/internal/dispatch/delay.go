package dispatch

import (
	"time"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// misdeployedInterval is the least interval after an attempt that found its method missing or the orchestrator without
// credentials: only a deployment changes that. With jitter it makes a wait of 5 s at the least, unless the policy's longest
// interval is shorter.
const misdeployedInterval = 10 * time.Second

// Delay returns how long to wait after the given attempt (counted from 1) before the next. The interval begins with the
// policy's initial one and doubles up to its longest; half of it is jitter. It is at least what the participant asked
// for, and then jitter on top, so that those who were sent away together don't come back together.
func (d *Dispatcher) Delay(call *contract.CallConfig, attempt int, result engine.Answer) time.Duration {
	interval := interval(call.Retry, attempt)
	if result.Outcome == treatyv1.Outcome_OUTCOME_MISDEPLOYED {
		interval = max(interval, min(misdeployedInterval, longest(call.Retry)))
	}
	half := interval / 2
	jitter := time.Duration(d.rand() * float64(interval-half))
	return max(half, result.RetryAfter) + jitter
}

// interval is the wait after an attempt, without jitter.
func interval(retry contract.Retry, attempt int) time.Duration {
	top := longest(retry)
	wait := retry.InitialInterval
	if wait <= 0 {
		wait = contract.DefaultInitialInterval
	}
	for ; attempt > 1; attempt-- {
		if wait > top/2 {
			return top // doubling could overflow
		}
		wait *= 2
	}
	return min(wait, top)
}

// longest is the policy's longest interval.
func longest(retry contract.Retry) time.Duration {
	if retry.MaxInterval <= 0 {
		return contract.DefaultMaxInterval
	}
	return retry.MaxInterval
}
