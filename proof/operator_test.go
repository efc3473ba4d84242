package proof

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// operator decides what becomes of suspended sagas, as a person does. A nil operator does nothing.
type operator struct {
	mu      sync.Mutex
	decided map[string]int // by what was decided, and the reason of the suspension
}

// operate decides until the returned function is called.
func (o *operator) operate(t *testing.T, acme *company.Company) (stop func()) {
	t.Helper()
	if o == nil {
		return func() {}
	}
	o.decided = make(map[string]int)
	ctx, cancel := context.WithCancel(t.Context())
	var operating sync.WaitGroup
	operating.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				o.decideAll(ctx, acme)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		operating.Wait()
	}
}

// decideAll decides about each suspended saga. Errors are those of an orchestrator that was killed, and of decisions
// that came too late; the next round sees what is left.
func (o *operator) decideAll(ctx context.Context, acme *company.Company) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	stuck, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 100, Filter: `state = "SUSPENDED"`})
	if err != nil {
		return
	}
	for _, listed := range stuck.GetSagas() {
		saga, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
		if err != nil || saga.GetSuspension() == nil {
			continue
		}
		if what, err := decide(ctx, sagas, saga); err == nil {
			o.mu.Lock()
			o.decided[what+" "+strings.TrimPrefix(saga.GetSuspension().GetReason().String(), "SUSPENSION_REASON_")]++
			o.mu.Unlock()
		}
	}
}

// decide decides about one suspended saga: it is tried again, unless a step was compensated before its store was
// restored, and it can be cancelled.
func decide(ctx context.Context, sagas treatyv1.SagaServiceClient, saga *treatyv1.Saga) (what string, err error) {
	if saga.GetSuspension().GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE {
		_, err = sagas.CancelSaga(ctx, &treatyv1.CancelSagaRequest{
			Name: saga.GetName(), Decision: &treatyv1.Decision{Actor: "operator", Reason: "it was being compensated"},
		})
		if err == nil {
			return "cancelled", nil
		}
	}
	_, err = sagas.ResumeSaga(ctx, &treatyv1.ResumeSagaRequest{
		Name: saga.GetName(), Decision: &treatyv1.Decision{Actor: "operator", Reason: "tried again"},
		How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
	})
	return "retried", err
}

// String says what was decided.
func (o *operator) String() string {
	if o == nil {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("  decided by a person    %s\n", strings.TrimPrefix(fmt.Sprint(o.decided), "map"))
}
