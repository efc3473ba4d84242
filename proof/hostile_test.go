package proof

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/wire"
)

// hostility puts a hostile middle in front of each participant: it resets, cuts, stalls, drops, repeats and delays
// calls, and answers them itself. A nil hostility does nothing.
type hostility struct {
	seed   uint64
	chance float64 // of each of the things that it does

	mu      sync.Mutex
	middles map[string]*hostile.Middle // by participant
}

// between starts the middles.
func (h *hostility) between(t *testing.T) func(participant, address string) (string, error) {
	if h == nil {
		return nil
	}
	h.middles = make(map[string]*hostile.Middle)
	return func(participant, address string) (string, error) {
		middle, err := hostile.Listen(address, hostile.Options{})
		if err != nil {
			return "", err
		}
		t.Cleanup(middle.Close)
		chances := hostile.Each(h.chance)
		chances.MaxStall, chances.MaxLate = 500*time.Millisecond, 2*time.Second
		chances.Late *= 6 // an action has to be later than its compensation, and of the same epoch
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
