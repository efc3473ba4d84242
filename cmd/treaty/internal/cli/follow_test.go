package cli

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestObstaclesAreReported waits for a saga whose participant goes down. Nothing is journaled then, so that the stream
// of the saga doesn't tell.
func TestObstaclesAreReported(t *testing.T) {
	begin := running(t)
	begin.Steps[1].Attempts = nil
	stuck := running(t)
	stuck.Steps[1].Attempts = &treatyv1.Attempts{Count: 1, Parked: true,
		LastFailure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "connection refused"}}
	end := succeeded(t)
	end.Name, end.UpdateTime = begin.GetName(), at(ms(900))
	for name, args := range map[string][]string{
		"wait_obstacle":       {"sagas", "wait", "order-3"},
		"watch_obstacle":      {"sagas", "watch", "order-3"},
		"watch_obstacle_json": {"sagas", "watch", "order-3", "--json"},
		"start_wait_obstacle": {"start", placeOrder, "--saga-id", "order-3", "--wait"},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{stuck}
			// The second read begins after the first one was reported.
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{begin, end}, Reads: 2}}
			s := setup{args: args, address: f.Address, readAgain: time.Millisecond}
			golden(t, name, s, run(t, s))
		})
	}
}

// TestObstaclesAreCurrent checks that what was read isn't shown if the saga has changed since.
func TestObstaclesAreCurrent(t *testing.T) {
	begin := running(t)
	begin.Steps[1].Attempts = nil
	old := proto.CloneOf(parked(t))
	old.Name, old.UpdateTime = begin.GetName(), at(ms(100))
	end := succeeded(t)
	end.Name, end.UpdateTime = begin.GetName(), at(ms(900))
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{old}
	f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{begin, end}, Reads: 2}}
	got := run(t, setup{args: []string{"sagas", "wait", "order-3"}, address: f.Address, readAgain: time.Millisecond})
	if got.stderr != "" || got.code != 0 {
		t.Errorf("exit %d, stderr %q, want nothing", got.code, got.stderr)
	}
}

// TestObstaclesThatPass follows a saga that begins while its participant starts. That is over in a moment, so that
// nobody needs to hear of it.
func TestObstaclesThatPass(t *testing.T) {
	begin := proto.CloneOf(parked(t))
	end := succeeded(t)
	end.Name, end.UpdateTime = begin.GetName(), at(ms(900))
	for name, args := range map[string][]string{
		"wait":       {"sagas", "wait", begin.GetName()},
		"watch":      {"sagas", "watch", begin.GetName()},
		"watch JSON": {"sagas", "watch", begin.GetName(), "--json"},
		"start":      {"start", placeOrder, "--saga-id", strings.TrimPrefix(begin.GetName(), "sagas/"), "--wait"},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{begin}
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{begin, end}}}
			got := run(t, setup{args: args, address: f.Address})
			if got.stderr != "" || got.code != 0 {
				t.Errorf("exit %d, stderr %q, want nothing", got.code, got.stderr)
			}
		})
	}
}
