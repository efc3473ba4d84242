package cli

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

// TestPublishSaysWhoWoke publishes an event for which no, one and many sagas wait, and at an orchestrator that doesn't
// say.
func TestPublishSaysWhoWoke(t *testing.T) {
	for want, woken := range map[string]*int32{
		"4711  7\n":                nil,
		"4711  7  woke no saga\n":  proto.Int32(0),
		"4711  7  woke 1 saga\n":   proto.Int32(1),
		"4711  7  woke 12 sagas\n": proto.Int32(12),
	} {
		f := servertest.New(t)
		f.Woken = woken
		out := run(t, setup{address: f.Address, args: []string{
			"publish", "shop.v1.OrderShipped", "--data", `{"order":"orders/1"}`, "--id", "7",
		}})
		if out.stdout != want || out.code != 0 {
			t.Errorf("printed %q, want %q", out.stdout, want)
		}
	}
}
