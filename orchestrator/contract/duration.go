package contract

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Field numbers of the options, for positions.
const (
	commandCompensatedBy = 1
	commandTimeout       = 5
	commandRetry         = 6
	commandRejections    = 7
	commandOutcomes      = 8
	commandBroadcast     = 9
	commandComplete      = 10

	compensationTimeout  = 1
	compensationRetry    = 2
	compensationOutcomes = 3

	retryInitialInterval = 1
	retryMaxInterval     = 2
	retryGiveUpAfter     = 3

	sagaDeadline  = 1
	sagaRetention = 2
)

// durationParams describes a duration field of an option.
type durationParams struct {
	name      string // the name of the field
	value     *durationpb.Duration
	otherwise time.Duration // the default
	least     time.Duration
	most      time.Duration
}

// duration reads the duration at s. It reports an invalid one and returns the default for it.
func (r *report) duration(s site, p durationParams) time.Duration {
	if p.value == nil {
		return p.otherwise
	}
	switch {
	case p.value.CheckValid() != nil:
		r.add(durationInvalid, s,
			"%s is not a valid duration: seconds and nanos must have the same sign, and nanos must be below 1000000000",
			p.name)
	case p.value.GetSeconds() <= 0 && p.value.GetNanos() <= 0:
		r.add(durationInvalid, s, "%s is %s: write a positive duration, or leave it out for the default", p.name,
			p.value.AsDuration())
	case p.value.AsDuration() < p.least:
		r.add(durationInvalid, s, "%s is %s: write at least %s", p.name, p.value.AsDuration(), p.least)
	case p.value.AsDuration() > p.most:
		r.add(durationTooLong, s, "%s is %s: write at most %s", p.name, p.value.AsDuration(), p.most)
	default:
		return p.value.AsDuration()
	}
	return p.otherwise
}

// retry reads the retry policy at s. What the policy leaves out is taken from otherwise.
func (r *report) retry(s site, policy *treatyv1.RetryPolicy, otherwise Retry) Retry {
	if policy == nil {
		return otherwise
	}
	retry := Retry{
		InitialInterval: r.duration(s.below(retryInitialInterval), durationParams{
			name: "initial_interval", value: policy.GetInitialInterval(), otherwise: otherwise.InitialInterval,
			most: maxRetryInterval,
		}),
		MaxInterval: r.duration(s.below(retryMaxInterval), durationParams{
			name: "max_interval", value: policy.GetMaxInterval(), otherwise: otherwise.MaxInterval,
			most: maxRetryInterval,
		}),
		GiveUpAfter: r.duration(s.below(retryGiveUpAfter), durationParams{
			name: "give_up_after", value: policy.GetGiveUpAfter(), otherwise: otherwise.GiveUpAfter,
			most: maxGiveUpAfter,
		}),
	}
	if retry.MaxInterval < retry.InitialInterval {
		r.add(retryIntervalsReversed, s,
			"max_interval is %s, but initial_interval is %s: write a max_interval of at least %s or a shorter "+
				"initial_interval",
			retry.MaxInterval, retry.InitialInterval, retry.InitialInterval)
	}
	return retry
}
