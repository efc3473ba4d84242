package orchestrator_test

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
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
