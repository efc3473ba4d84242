package dispatch

import (
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

func TestDelay(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	const first = contract.DefaultInitialInterval
	usual := contract.Retry{InitialInterval: 100 * ms, MaxInterval: 30 * s}
	unknown := engine.Answer{Outcome: outcomeUnknown}
	misdeployed := engine.Answer{Outcome: outcomeMisdeployed}
	asked := engine.Answer{Outcome: outcomeThrottled, RetryAfter: 10 * s}
	for _, test := range []struct {
		name     string
		retry    contract.Retry
		attempt  int
		result   engine.Answer
		low, top time.Duration
	}{
		{"first", usual, 1, unknown, 50 * ms, 100 * ms},
		{"second", usual, 2, unknown, 100 * ms, 200 * ms},
		{"fifth", usual, 5, unknown, 800 * ms, 1600 * ms},
		{"longest", usual, 10, unknown, 15 * s, 30 * s},
		{"after days", usual, 1 << 30, unknown, 15 * s, 30 * s},
		{"zero attempts", usual, 0, unknown, 50 * ms, 100 * ms},
		{"no policy", contract.Retry{}, 1, unknown, first / 2, first},
		{"initial above longest", contract.Retry{InitialInterval: 10 * s, MaxInterval: s}, 1, unknown, 500 * ms, s},
		{"overflow", contract.Retry{InitialInterval: s, MaxInterval: 1<<63 - 1}, 1000, unknown, 1<<62 - 1, 1<<63 - 1},
		{"misdeployed", usual, 1, misdeployed, 5 * s, 10 * s},
		{"misdeployed, later", usual, 10, misdeployed, 15 * s, 30 * s},
		{"misdeployed, short", contract.Retry{InitialInterval: ms, MaxInterval: s}, 1, misdeployed, 500 * ms, s},
		{"as requested", usual, 1, asked, 10 * s, 10*s + 50*ms},
		{"longer than requested", usual, 10, asked, 15 * s, 30 * s},
	} {
		t.Run(test.name, func(t *testing.T) {
			call := &contract.CallConfig{Retry: test.retry}
			d := &Dispatcher{rand: func() float64 { return 0 }}
			low := d.Delay(call, test.attempt, test.result)
			d.rand = func() float64 { return 1 }
			top := d.Delay(call, test.attempt, test.result)
			if low != test.low || top < test.top-2 || top > test.top {
				t.Errorf("got %v to %v, want %v to %v", low, top, test.low, test.top)
			}
		})
	}
}
