package orchestrator_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
)

// TestListByRequestID finds sagas by the request ids with which they were started, whether the request or its field
// holds them.
func TestListByRequestID(t *testing.T) {
	w := newSystem(t)
	for _, id := range []string{"r-1", "r-2"} {
		if _, err := w.acme.ChangeAddress(w.ctx(), move(id, "Main Street 1")); err != nil {
			t.Fatal(err)
		}
	}
	for filter, want := range map[string][]string{
		`request_id = "r-1"`: {"r-1"},
		`request_id = "r-3"`: nil,
		`request_id = "r-2" AND definition = "` + changeAddress + `"`: {"r-2"},
		`NOT request_id = "r-2"`:                   {"r-1"},
		`request_id = "r-1" OR request_id = "r-2"`: {"r-1", "r-2"},
	} {
		list, err := w.sagas.ListSagas(w.ctx(), &treatyv1.ListSagasRequest{Filter: filter, OrderBy: "create_time"})
		if err != nil {
			t.Fatal(filter, err)
		}
		var got []string
		for _, saga := range list.GetSagas() {
			got = append(got, saga.GetRequestId())
		}
		if len(got) != len(want) || len(want) > 0 && got[0] != want[0] {
			t.Errorf("%s: listed the request ids %q, want %q", filter, got, want)
		}
	}
}

// TestListKnowsProgress lists a saga that has done a step and waits in the next one. Its state hasn't changed since it
// was started, but it has made progress.
func TestListKnowsProgress(t *testing.T) {
	w := newSystem(t)
	release := w.participants.stall()
	defer release()
	request, err := anypb.New(move("r-1", "Main Street 1"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(),
		&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	<-w.participants.held
	saga, err := w.sagas.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: created.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	want := saga.GetUpdateTime().AsTime().Truncate(time.Microsecond)
	if !want.After(saga.GetCreateTime().AsTime()) {
		t.Fatalf("the saga was updated at %v, when it was created", want)
	}
	since := func(op string) string {
		return "state = RUNNING AND update_time " + op + ` "` + want.Format(rfc3339) + `"`
	}
	for filter, listed := range map[string]int{since(">="): 1, since("<"): 0} {
		for _, order := range []string{"create_time", "update_time"} {
			list, err := w.sagas.ListSagas(w.ctx(), &treatyv1.ListSagasRequest{Filter: filter, OrderBy: order})
			if err != nil || len(list.GetSagas()) != listed {
				t.Fatalf("%s by %s: %v, %v; want %d sagas", filter, order, list.GetSagas(), err, listed)
			}
			if listed > 0 && !list.GetSagas()[0].GetUpdateTime().AsTime().Equal(want) {
				t.Errorf("it is listed as updated at %v, want %v", list.GetSagas()[0].GetUpdateTime().AsTime(), want)
			}
		}
	}
}

// rfc3339 has the microseconds that stores keep.
const rfc3339 = "2006-01-02T15:04:05.000000Z07:00"

// TestListDamaged lists a saga whose journal can't be read. It doesn't look like one that runs.
func TestListDamaged(t *testing.T) {
	w := unopened(t, newParticipants(t))
	store, err := stores.Open(t.Context(), w.store, journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	entry := &journal.Entry{Saga: "bad", Turn: 1, Data: []byte("no turn"), Row: &journal.Row{
		ID: "bad", Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_RUNNING, CreateTime: time.Now(),
		UpdateTime: time.Now(),
	}}
	if err := store.Append(t.Context(), []*journal.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r-1", "Main Street 1")); err != nil {
		t.Fatal(err)
	}
	list, err := w.sagas.ListSagas(w.ctx(), &treatyv1.ListSagasRequest{})
	if err != nil || len(list.GetSagas()) != 2 {
		t.Fatal(list, err)
	}
	for _, saga := range list.GetSagas() {
		if damaged := saga.GetName() == "sagas/bad"; (saga.GetDamage() != "") != damaged {
			t.Errorf("%s: %q", saga.GetName(), saga.GetDamage())
		}
	}
}
