package engine

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// defaultMaxStartWait is how long the first command of a new saga may wait for its participant until further starts
	// are refused.
	defaultMaxStartWait = 10 * time.Second

	// overloadRetryAfter is when a start that was refused may be repeated.
	overloadRetryAfter = time.Second
)

// ErrOverloaded says that a saga wasn't started, because there are as many as the limits allow, or as can be driven.
// Nothing was recorded. It is an *OverloadedError.
var ErrOverloaded = errors.New("no further saga is started now")

// OverloadedError is an ErrOverloaded that says why.
type OverloadedError struct {
	// Message says which limit was reached.
	Message string

	// RetryAfter is how long to wait until the start may be repeated.
	RetryAfter time.Duration
}

// Error returns the message.
func (e *OverloadedError) Error() string { return fmt.Sprintf("%v: %s", ErrOverloaded, e.Message) }

// Is returns whether target is ErrOverloaded.
func (e *OverloadedError) Is(target error) bool { return target == ErrOverloaded }

func overloaded(retryAfter time.Duration, format string, args ...any) error {
	return &OverloadedError{Message: fmt.Sprintf(format, args...), RetryAfter: retryAfter}
}

// StartLimits limit how many sagas are started. Child sagas are never refused.
type StartLimits struct {
	// Definitions are limits by definition.
	Definitions map[string]DefinitionLimit

	// Labels are how many sagas with the same value of a label may be open, by the name of the label.
	Labels map[string]int

	// MaxWait is how long the first command of a saga may wait for a participant that is up until no further saga of
	// its definition is started. Default 10 s. Negative: for ever.
	MaxWait time.Duration
}

// DefinitionLimit limits the sagas of one definition. Zero values limit nothing.
type DefinitionLimit struct {
	// Open is how many sagas may be open.
	Open int

	// PerSecond is how many sagas may be started per second.
	PerSecond float64
}

// label is a label with its value.
type label struct{ key, value string }

// startLimiter counts open sagas and refuses starts. It is an Observer, which passes on what it is told.
type startLimiter struct {
	Observer

	limits     StartLimits
	dispatcher Dispatcher

	mu     sync.Mutex
	rates  map[string]*admission.Rate // by definition
	open   map[string]int             // by definition that has a limit, with the starts that are under way
	labels map[label]int              // the same for labels
}

func newStartLimiter(config *Config) *startLimiter {
	l := &startLimiter{
		Observer: config.Observer, limits: config.StartLimits, dispatcher: config.Dispatcher,
		rates: make(map[string]*admission.Rate), open: make(map[string]int), labels: make(map[label]int),
	}
	l.limits.MaxWait = cmp.Or(l.limits.MaxWait, defaultMaxStartWait)
	for definition, limit := range config.StartLimits.Definitions {
		if limit.PerSecond > 0 {
			l.rates[definition] = admission.NewRate(limit.PerSecond, int(limit.PerSecond))
		}
	}
	return l
}

// begin counts a saga that is being started. It returns an *OverloadedError, and counts nothing, if it must not be
// started. Call end once the start is committed or has failed: then the saga is counted for as long as it is open.
func (l *startLimiter) begin(params *StartParams) (end func(), err error) {
	if params.Parent != nil {
		return func() {}, nil
	}
	if since, waits := l.dispatcher.FirstWaitsSince(params.Definition); waits && l.limits.MaxWait > 0 {
		if waited := time.Since(since); waited > l.limits.MaxWait {
			return nil, overloaded(overloadRetryAfter,
				"the first command of a saga of %s has waited %s for its participant, which has as many commands as "+
					"it can answer in time", params.Definition, waited.Round(time.Second))
		}
	}
	if len(l.limits.Definitions) == 0 && len(l.limits.Labels) == 0 {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if most := l.limits.Definitions[params.Definition].Open; most > 0 && l.open[params.Definition] >= most {
		return nil, overloaded(overloadRetryAfter, "%d sagas of %s are open, which is the limit", most,
			params.Definition)
	}
	for key, value := range params.Labels {
		if most := l.limits.Labels[key]; most > 0 && l.labels[label{key, value}] >= most {
			return nil, overloaded(overloadRetryAfter, "%d sagas with this value of the label %s are open, which is "+
				"the limit", most, key)
		}
	}
	if rate := l.rates[params.Definition]; rate != nil {
		now := time.Now()
		if wait := rate.Wait(now); wait > 0 {
			return nil, overloaded(wait, "sagas of %s are started as often as the limit allows", params.Definition)
		}
		rate.Take(now)
	}
	l.add(params.Definition, params.Labels, 1)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.add(params.Definition, params.Labels, -1)
	}, nil
}

// add changes the counts of a saga. The caller holds the lock.
func (l *startLimiter) add(definition string, labels map[string]string, n int) {
	if l.limits.Definitions[definition].Open > 0 {
		l.open[definition] += n
	}
	for key, value := range labels {
		if l.limits.Labels[key] == 0 {
			continue
		}
		counted := label{key, value}
		if l.labels[counted] += n; l.labels[counted] == 0 {
			delete(l.labels, counted)
		}
	}
}

func (l *startLimiter) count(saga *machine.Saga, n int) {
	if len(l.limits.Definitions) == 0 && len(l.limits.Labels) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(saga.Started.GetDefinition(), saga.Started.GetLabels(), n)
}

// SagaStarted counts a saga.
func (l *startLimiter) SagaStarted(saga *machine.Saga) {
	l.count(saga, 1)
	l.Observer.SagaStarted(saga)
}

// SagaRecovered counts a saga.
func (l *startLimiter) SagaRecovered(saga *machine.Saga) {
	l.count(saga, 1)
	l.Observer.SagaRecovered(saga)
}

// SagaReopened counts a saga.
func (l *startLimiter) SagaReopened(saga *machine.Saga) {
	l.count(saga, 1)
	l.Observer.SagaReopened(saga)
}

// SagaEnded counts a saga no longer.
func (l *startLimiter) SagaEnded(saga *machine.Saga) {
	l.count(saga, -1)
	l.Observer.SagaEnded(saga)
}
