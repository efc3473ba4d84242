package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

func TestPending(t *testing.T) {
	type want struct {
		outcome treatyv1.Outcome
		pending time.Duration
		warned  bool
	}
	accepted := func(pending time.Duration) want {
		return want{outcome: outcomeUnknown, pending: pending}
	}
	malformed := want{outcome: outcomeUnknown, pending: 30 * time.Second, warned: true}
	for _, test := range []struct {
		name   string
		values []string
		fails  error
		want   want
	}{
		{"no trailer", nil, nil, want{outcome: outcomeDone}},
		{"seconds", []string{"90"}, nil, accepted(90 * time.Second)},
		{"a day", []string{"86400"}, nil, accepted(24 * time.Hour)},
		{"more than a day", []string{"86401"}, nil, accepted(24 * time.Hour)},
		{"more than an integer holds", []string{"99999999999999999999999"}, nil, accepted(24 * time.Hour)},
		{"zero", []string{"0"}, nil, accepted(time.Second)},
		{"negative", []string{"-5"}, nil, accepted(time.Second)},
		{"empty", []string{""}, nil, malformed},
		{"a duration", []string{"5m"}, nil, malformed},
		{"a fraction", []string{"1.5"}, nil, malformed},
		{"two values", []string{"5", "6"}, nil, malformed},
		{"an error", []string{"5"}, status.Error(codes.NotFound, "gone"), want{outcome: outcomeRefused}},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &capture{}
			s := serve(t, anyPort, func(ctx context.Context, _ []byte) ([]byte, error) {
				md := metadata.MD{}
				md.Append(wire.PendingKey, test.values...)
				return []byte("ignored when pending"), errors.Join(test.fails, grpc.SetTrailer(ctx, md))
			})
			d := dispatcher(t, s.addr, func(c *testConfig) { c.Logger = log.logger() })
			got := d.Attempt(t.Context(), attempt())
			result := want{outcome: got.Outcome, pending: got.Pending, warned: log.has("malformed")}
			if result != test.want {
				t.Errorf("got %+v, log %q, want %+v", got, log.text(), test.want)
			}
			if got.Pending > 0 && (got.Reply != nil || !strings.Contains(got.Failure.GetMessage(), "accepted")) {
				t.Errorf("got reply %q and failure %v", got.Reply, got.Failure)
			}
		})
	}
}

// The breaker of a participant that accepts commands stays closed.
func TestPendingKeepsTheBreakerClosed(t *testing.T) {
	s := serve(t, anyPort, func(ctx context.Context, _ []byte) ([]byte, error) {
		return nil, grpc.SetTrailer(ctx, metadata.Pairs(wire.PendingKey, "1"))
	})
	d := dispatcher(t, s.addr, func(c *testConfig) { c.BreakAfter = 1 })
	for range 3 {
		d.Attempt(t.Context(), attempt())
		if waits(d, destination("")) {
			t.Fatal("the breaker is open")
		}
	}
}

func FuzzParsePending(f *testing.F) {
	for _, seed := range []string{"", "1", "86400", "-1", "1e3", "99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := parsePending([]string{value})
		if wait < minPending || wait > maxPending || (!ok && wait != defaultPending) {
			t.Errorf("%q: %v, %t", value, wait, ok)
		}
	})
}
