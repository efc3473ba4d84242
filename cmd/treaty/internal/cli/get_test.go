package cli

import (
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestGetByRequestID finds a saga by the request id with which it was started.
func TestGetByRequestID(t *testing.T) {
	other := compensated(t)
	other.Definition = "shop.v1.OrderSagas/CloseShop"
	for _, c := range []struct {
		name   string
		sagas  []*treatyv1.Saga
		flags  []string
		filter string
		code   int
	}{
		{"get_by_request_id", []*treatyv1.Saga{succeeded(t)}, nil, `request_id = "r-1"`, problem.ExitOK},
		{"get_by_request_id_none", nil, nil, `request_id = "r-1"`, problem.ExitFailure},
		{"get_by_request_id_two", []*treatyv1.Saga{succeeded(t), other}, nil, `request_id = "r-1"`, problem.ExitUsage},
		{
			"get_by_request_id_and_definition", []*treatyv1.Saga{succeeded(t)}, []string{"--definition", placeOrder},
			`definition = "` + placeOrder + `" AND request_id = "r-1"`, problem.ExitOK,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = c.sagas
			s := setup{address: f.Address, args: append([]string{"sagas", "get", "--request-id", "r-1"}, c.flags...)}
			got := run(t, s)
			golden(t, c.name, s, got)
			if got.code != c.code {
				t.Errorf("exit %d, want %d", got.code, c.code)
			}
			if list := servertest.Last[*treatyv1.ListSagasRequest](t, f); list.GetFilter() != c.filter {
				t.Errorf("the filter is %s, want %s", list.GetFilter(), c.filter)
			}
		})
	}
}

// TestGetLong shows a saga whose journal has become long.
func TestGetLong(t *testing.T) {
	f := servertest.New(t)
	long := running(t)
	long.Warning = "its journal is long; restart from time to time with saga.Restart"
	f.Sagas = []*treatyv1.Saga{long}
	s := setup{args: []string{"sagas", "get", "order-3"}, address: f.Address}
	golden(t, "get_long", s, run(t, s))
}
