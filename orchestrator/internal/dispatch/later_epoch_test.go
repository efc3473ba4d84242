package dispatch

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// TestLaterEpoch hears of a later epoch with each call of ParticipantService, and passes it on.
func TestLaterEpoch(t *testing.T) {
	stale, err := status.New(codes.Aborted, "epoch 500 has replaced epoch 100").WithDetails(&errdetails.ErrorInfo{
		Domain: wire.ErrorDomain, Reason: wire.Reason(treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH),
		Metadata: map[string]string{wire.ErrorEpoch: "500"},
	})
	if err != nil {
		t.Fatal(err)
	}
	service := newDescriber()
	epochs := make(chan uint64, 10)
	me, _ := self(func(s *Self) { s.Replaced = func(_ string, epoch uint64) { epochs <- epoch } })
	d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
	awaitOpen(t, d)
	service.mu.Lock()
	service.listErr, service.closeErr = stale.Err(), stale.Err()
	service.mu.Unlock()

	if got := d.CloseCommand(t.Context(), ofEpoch()); got.Halt != engine.HaltReplaced || got.LaterEpoch != 500 {
		t.Errorf("closing: got %+v", got)
	}
	if got := d.LookUp(t.Context(), ofEpoch()); got.Verdict != engine.NotAnswered || <-epochs != 500 {
		t.Errorf("looking up: got %+v", got)
	}
	if err := d.scopes.open[0].ListCommands(t.Context(), testService, &treatyv1.ListCommandsRequest{},
		func(*treatyv1.KnownCommand) error { return nil }); err == nil || <-epochs != 500 {
		t.Errorf("listing: got %v", err)
	}
}
