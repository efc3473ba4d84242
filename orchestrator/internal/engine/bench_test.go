package engine_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// quick is a participant that answers every command with the same reply.
type quick struct {
	engine.Dispatcher

	reply []byte
}

func (q quick) Attempt(context.Context, *engine.Attempt) engine.Answer {
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Evidence: engine.Settled, Reply: q.reply}
}

func (quick) Admit(
	engine.Destination, *contract.CallConfig, admission.Claim, func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	return nil, nil
}

func (quick) FirstWaitsSince(string) (time.Time, bool) { return time.Time{}, false }

// forgetful is a store that keeps no turns, so that only the engine and the machine are measured.
type forgetful struct{ journal.Store }

func (forgetful) Append(context.Context, []*journal.Entry) error { return nil }

// BenchmarkSaga measures a saga of three steps with payloads of 32 bytes, from the request to the reply, without a
// store and without a network.
func BenchmarkSaga(b *testing.B) {
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 32)
	request, err := proto.Marshal(&benchv1.RunRequest{Steps: 3, Payload: payload})
	if err != nil {
		b.Fatal(err)
	}
	reply, err := proto.Marshal(&benchv1.WorkDone{Payload: payload})
	if err != nil {
		b.Fatal(err)
	}
	code := make(registrar)
	saga.Register(code, benchv1.WorkSagas_Run_FullMethodName, run)
	e, err := engine.New(b.Context(), engine.Config{
		Store: forgetful{journaltest.NewMemory()}, Dispatcher: quick{reply: reply}, Catalog: catalog, Definitions: code,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Stop(context.Background())
	b.ReportAllocs()
	for b.Loop() {
		handle, err := e.Start(b.Context(), engine.StartParams{Definition: definition, Request: request})
		if err != nil {
			b.Fatal(err)
		}
		end, err := handle.Await(b.Context())
		if err != nil || end.State != succeeded {
			b.Fatal(end.State, err)
		}
	}
}
