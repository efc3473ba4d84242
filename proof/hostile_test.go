package proof

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/company"
)

// hostility puts a hostile middle in front of each participant: it resets, cuts, stalls, drops, repeats and delays calls,
// and answers them itself. A nil hostility does nothing.
type hostility struct {
	seed   uint64
	chance float64 // of each of the things that it does

	mu      sync.Mutex
	middles map[string]*hostile.Middle // by participant
	resumed map[string]int             // the sagas that a person had to resume, by reason
}

// between starts the middles.
func (h *hostility) between(t *testing.T) func(participant, address string) (string, error) {
	if h == nil {
		return nil
	}
	h.middles, h.resumed = make(map[string]*hostile.Middle), make(map[string]int)
	return func(participant, address string) (string, error) {
		middle, err := hostile.Listen(address, hostile.Options{})
		if err != nil {
			return "", err
		}
		t.Cleanup(middle.Close)
		chances := hostile.Each(h.chance)
		chances.MaxStall, chances.MaxLate = 500*time.Millisecond, 3*time.Second
		chances.MetadataKeys = []string{wire.EpochKey, wire.CommandIDKey, wire.RequestDigestKey, wire.ScopeKey}
		chances.TrailerKeys = []string{wire.AnswerKey, wire.PendingKey, "grpc-status-details-bin"}
		chances.Places = []hostile.Place{
			hostile.BeforeRequest, hostile.AfterRequest, hostile.AfterHeaders, hostile.BeforeTrailers,
		}
		// Streams last, and what participants say about themselves holds commands back until it gets through.
		chances.Spare = func(call *hostile.Call) bool {
			return strings.HasPrefix(call.Method, "/grpc.") ||
				strings.HasPrefix(call.Method, "/treaty.v1.") && call.Number%4 != 0
		}
		name := fnv.New64()
		_, _ = name.Write([]byte(participant))
		middle.Program(hostile.Random(h.seed^name.Sum64(), chances))
		h.mu.Lock()
		defer h.mu.Unlock()
		h.middles[participant] = middle
		return middle.Addr(), nil
	}
}

// relent makes the middles pass everything on.
func (h *hostility) relent() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, middle := range h.middles {
		middle.Program(func(*hostile.Call) hostile.Plan { return hostile.Pass() })
	}
}

// operate resumes suspended sagas, as a person who retries does, until the returned function is called.
func (h *hostility) operate(t *testing.T, acme *company.Company) (stop func()) {
	t.Helper()
	if h == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var operating sync.WaitGroup
	operating.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.resume(ctx, acme)
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

func (h *hostility) resume(ctx context.Context, acme *company.Company) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	stuck, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 100, Filter: `state = "SUSPENDED"`})
	if err != nil {
		return // the orchestrator was killed
	}
	for _, listed := range stuck.GetSagas() {
		saga, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
		if err != nil || saga.GetSuspension() == nil {
			continue
		}
		_, err = sagas.ResumeSaga(ctx, &treatyv1.ResumeSagaRequest{
			Name: saga.GetName(), Decision: &treatyv1.Decision{Actor: "operator", Reason: "tried again"},
			How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
		})
		if err == nil {
			h.mu.Lock()
			h.resumed[strings.TrimPrefix(saga.GetSuspension().GetReason().String(), "SUSPENSION_REASON_")]++
			h.mu.Unlock()
		}
	}
}

// String says what the middles did.
func (h *hostility) String() string {
	if h == nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(h.middles)) {
		kinds := make(map[string]int)
		for what, n := range h.middles[name].Counts() {
			kind, _, _ := strings.Cut(what, " ")
			kinds[kind] += n
		}
		lines = append(lines, fmt.Sprintf("  in front of %-10s %v", name, strings.TrimPrefix(fmt.Sprint(kinds), "map")))
	}
	if len(h.resumed) > 0 {
		lines = append(lines, fmt.Sprintf("  resumed by a person    %v", h.resumed))
	}
	return strings.Join(lines, "\n") + "\n"
}

// TestKillsThroughHostileMiddleBriefly kills a few processes while everything between them is hostile.
// TestKillsThroughHostileMiddle, with the build tag proof, kills many.
func TestKillsThroughHostileMiddleBriefly(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs six programs")
	}
	brief := ordeal{
		kills: 12, inFlight: 16, moment: 600 * time.Millisecond, heal: longestHeal, goOnly: true, seed: 2,
		hostile: &hostility{seed: 2, chance: 0.02},
	}
	_, report := brief.run(t)
	judge(t, report)
}
