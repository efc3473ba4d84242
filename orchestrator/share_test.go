package orchestrator_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
)

// TestSharedStore runs two orchestrators on one database, with payloads that are sealed and with plain ones. Both start
// sagas, and when one stops, the other one ends what it has begun.
func TestSharedStore(t *testing.T) {
	t.Run("plain", func(t *testing.T) { shareStore(t) })
	t.Run("sealed", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "keys.json")
		if _, err := sealed.CreateKeys(file); err != nil {
			t.Fatal(err)
		}
		shareStore(t, orchestrator.WithStoreKeys(file))
	})
}

func shareStore(t *testing.T, options ...orchestrator.Option) {
	t.Helper()
	const sagas = 20
	p := newParticipants(t)
	release := p.stall()
	defer release()
	a := unopened(t, p)
	a.store, a.options = postgrestest.Database(t), options
	a.open()
	b := unopened(t, p)
	b.store, b.options = a.store, options
	b.open()
	var names []string
	for i := range sagas {
		at := []*system{a, b}[i%2]
		request, err := anypb.New(move(fmt.Sprint(i), "1 Main Street"))
		if err != nil {
			t.Fatal(err)
		}
		created, err := at.sagas.CreateSaga(at.ctx(), &treatyv1.CreateSagaRequest{
			Definition: "/" + strings.TrimPrefix(customerv1.CustomerSagas_ChangeAddress_FullMethodName, "/"),
			Request:    request,
		})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, created.GetName())
	}
	for range sagas {
		<-p.held
	}
	listed, err := b.sagas.ListSagas(b.ctx(), &treatyv1.ListSagasRequest{Filter: `state = "RUNNING"`})
	if err != nil || len(listed.GetSagas()) != sagas {
		t.Fatalf("%d sagas are listed, want %d (%v)", len(listed.GetSagas()), sagas, err)
	}
	elsewhere := 0
	for _, name := range names {
		_, err := b.sagas.GetSaga(b.ctx(), &treatyv1.GetSagaRequest{Name: name})
		if reason, _ := info(err); reason == treatyv1.ErrorReason_ERROR_REASON_DRIVEN_ELSEWHERE &&
			status.Code(err) == codes.Unavailable {
			elsewhere++
		} else if err != nil {
			t.Errorf("getting %s: %v", name, err)
		}
	}
	if elsewhere == 0 || elsewhere == sagas {
		t.Errorf("%d of %d sagas are the other orchestrator's", elsewhere, sagas)
	}
	a.stop()
	release()
	for _, name := range names {
		for {
			got, err := b.sagas.WaitSaga(b.ctx(), &treatyv1.WaitSagaRequest{Name: name})
			if status.Code(err) == codes.Unavailable {
				continue // its shard is on its way
			}
			if err != nil || got.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
				t.Errorf("%s: %v, %v", name, got.GetState(), err)
			}
			break
		}
	}
}

// TestImport moves a SQLite store with an open saga into PostgreSQL, where the saga ends. The old store isn't served
// any more.
func TestImport(t *testing.T) {
	p := newParticipants(t)
	release := p.stall()
	w := unopened(t, p)
	w.open()
	request, err := anypb.New(move("1", "1 Main Street"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{
		Definition: "/" + strings.TrimPrefix(customerv1.CustomerSagas_ChangeAddress_FullMethodName, "/"),
		Request:    request,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.held
	w.stop()
	release()
	from := w.store
	w.store = postgrestest.Database(t)
	o, err := orchestrator.New(orchestrator.WithStore(w.store))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Import(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	w.open()
	got, err := w.sagas.WaitSaga(w.ctx(), &treatyv1.WaitSagaRequest{Name: created.GetName()})
	if err != nil || got.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("in PostgreSQL, the saga ends as %v, %v", got.GetState(), err)
	}
	w.stop()
	w.store = from
	w.open()
	_, err = w.acme.ChangeAddress(w.ctx(), move("2", "1 Main Street"))
	if reason, _ := info(err); reason != treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED {
		t.Errorf("the old store starts a saga: %v", err)
	}
}
