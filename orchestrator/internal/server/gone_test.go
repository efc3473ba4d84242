package server

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// TestCallerIsGone tests that a caller that closes its connection is no failure of the orchestrator.
func TestCallerIsGone(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		want   codes.Code
		logged bool
	}{
		{"the connection is closing", status.Error(codes.Unavailable, "transport is closing"), codes.Canceled, false},
		{"the call is over", status.Error(codes.Canceled, "context canceled"), codes.Canceled, false},
		{"the message is too large", status.Error(codes.ResourceExhausted, "too large"), codes.Internal, true},
		{"another error", errors.New("can't be serialized"), codes.Internal, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			s := &Server{logger: slog.New(slog.NewTextHandler(&log, nil)), catalog: new(contract.Catalog)}
			err := s.explain(t.Context(), "/treaty.v1.SagaService/WatchSaga", nil,
				sendError("sending a change", test.err))
			if status.Code(err) != test.want || (log.Len() > 0) != test.logged {
				t.Errorf("got %v and the log %q, want %s", err, &log, test.want)
			}
		})
	}
}
