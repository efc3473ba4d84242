package engine

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// manyReversals is how many sagas of a definition must turn around, and none succeed, until the log says so.
	manyReversals = 10

	// reversalsInterval is the time between two such lines about one definition.
	reversalsInterval = 10 * time.Minute
)

// reversals notices when all sagas of a definition turn around, for example since a participant refuses all its
// commands. One refusal is business as usual. All methods may be called concurrently.
type reversals struct {
	logger *slog.Logger
	runs   map[string]*reversalRun // by definition; nobody changes it
}

// reversalRun is how many sagas of a definition have turned around since one has succeeded.
type reversalRun struct {
	sagas atomic.Int64 // all that a saga that succeeds touches

	mu     sync.Mutex
	logged time.Time // zero: nothing to take back
}

func newReversals(definitions map[string]machine.Code, logger *slog.Logger) *reversals {
	r := &reversals{logger: logger, runs: make(map[string]*reversalRun, len(definitions))}
	for definition := range definitions {
		r.runs[definition] = new(reversalRun)
	}
	return r
}

// succeeded takes note of a saga that has succeeded.
func (r *reversals) succeeded(saga *machine.Saga) {
	run := r.runs[saga.Started.GetDefinition()]
	if run == nil || run.sagas.Load() == 0 {
		return
	}
	run.sagas.Store(0)
	run.mu.Lock()
	defer run.mu.Unlock()
	if !run.logged.IsZero() {
		run.logged = time.Time{}
		r.logger.Info("sagas of a definition succeed again", "definition", saga.Started.GetDefinition())
	}
}

// turned takes note of a saga that turns around because its code failed or its deadline passed.
func (r *reversals) turned(saga *machine.Saga) {
	cause := saga.CompensationDecided.GetCause()
	run := r.runs[saga.Started.GetDefinition()]
	if run == nil || cause != treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED &&
		cause != treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE {
		return
	}
	sagas, now := run.sagas.Add(1), time.Now()
	if sagas < manyReversals || !run.due(now) {
		return
	}
	about := []any{"definition", saga.Started.GetDefinition(), "sagas", sagas, "saga", wire.SagaName(saga.ID)}
	failure := saga.CompensationDecided.GetFailure()
	for _, step := range saga.Steps {
		if step.Failure != nil {
			about = append(about[:6:6], "step", step.Path(), "method", step.Scheduled.GetMethod())
			failure = step.Failure
		}
	}
	r.logger.Warn("all sagas of a definition are compensated, and none succeeds: look at what refuses them",
		append(about, "code", codes.Code(uint32(failure.GetCode())).String())...)
}

func (r *reversalRun) due(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.logged.IsZero() && now.Sub(r.logged) < reversalsInterval {
		return false
	}
	r.logged = now
	return true
}
