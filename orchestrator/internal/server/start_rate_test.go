package server_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// TestCallerStarts starts sagas in both ways, faster than a caller may.
func TestCallerStarts(t *testing.T) {
	a := newSecureTestServer(t, security{callerStarts: 2. / 3600})
	started := 0
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
		started++
		return handle{}, nil
	}
	create := func() error {
		_, err := a.sagas.CreateSaga(a.ctx(), &treatyv1.CreateSagaRequest{
			Definition: changeAddress, Request: pack(t, address()),
		})
		return err
	}
	if err := create(); status.Code(err) == codes.ResourceExhausted {
		t.Fatalf("the first start: %v", err)
	}
	refused := failure{code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED}
	if got := failureOf(t, create()); got != refused {
		t.Errorf("the second start: %+v, want %+v", got, refused)
	}
	if got := failureOf(t, a.call(changeAddress, false)); got != refused {
		t.Errorf("a start by the saga's own method: %+v, want %+v", got, refused)
	}
	if started != 1 {
		t.Errorf("%d sagas were started", started)
	}
}
