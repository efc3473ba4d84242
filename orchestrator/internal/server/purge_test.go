package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestPurgeSaga(t *testing.T) {
	a := newTestServer(t)
	var purged, actor, why string
	a.engine.purge = func(id string, decision *treatyv1.Decision) (int, error) {
		purged, actor, why = id, decision.GetActor(), decision.GetReason()
		return 3, nil
	}
	decision := &treatyv1.Decision{Actor: "ada", Reason: "ticket 4711"}
	response, err := a.sagas.PurgeSaga(a.ctx(), &treatyv1.PurgeSagaRequest{Name: "sagas/a1", Decision: decision})
	if err != nil || response.GetPurgedSagas() != 3 {
		t.Errorf("got %v, %v; want 3 sagas", response, err)
	}
	if purged != "a1" || actor != "ada" || why != "ticket 4711" {
		t.Errorf("the engine purges %q for %q, who says %q", purged, actor, why)
	}
	for field, request := range map[string]*treatyv1.PurgeSagaRequest{
		"name":            {Name: "a1", Decision: decision},
		"decision.reason": {Name: "sagas/a1", Decision: &treatyv1.Decision{Actor: "ada"}},
	} {
		_, err := a.sagas.PurgeSaga(a.ctx(), request)
		if got := failureOf(t, err); got.code != codes.InvalidArgument || got.field != field {
			t.Errorf("%v: got %+v, want a violation of %s", request, got, field)
		}
	}
}
