package cli

import (
	"strings"
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

func TestCompletion(t *testing.T) {
	f := servertest.New(t)
	full(t, f)
	for _, c := range []struct {
		name string
		args []string
		want []string
		not  []string
	}{
		{"names", []string{"sagas", "get", ""},
			[]string{"sagas/order-1\tSUCCEEDED shop.v1.OrderSagas/PlaceOrder", "sagas/order-2\t"}, nil},
		{"names begun with the prefix", []string{"sagas", "get", "sagas/order-2"}, []string{"sagas/order-2\t"},
			[]string{"order-1"}},
		{"names begun without it", []string{"sagas", "get", "order-2"}, []string{"order-2\t"}, []string{"sagas/"}},
		{"only one name", []string{"sagas", "get", "order-1", ""}, nil, []string{"order-2"}},
		{"states", []string{"sagas", "list", "--state", ""}, []string{"RUNNING\n", "SUSPENDED\n"}, nil},
		{"states in lower case", []string{"sagas", "list", "--state", "su"}, []string{"suspended\n", "succeeded\n"},
			[]string{"running"}},
		{"definitions", []string{"sagas", "list", "--definition", ""}, []string{placeOrder + "\n"}, nil},
		{"methods", []string{"start", "shop.v1.OrderSagas/C"}, []string{"shop.v1.OrderSagas/CloseShop\n"},
			[]string{"PlaceOrder", "CountOrders"}},
		{"order", []string{"sagas", "list", "--order-by", ""}, []string{"update_time desc\n"}, nil},
		{"lost sagas", []string{"sagas", "lost", "--forget", ""}, []string{"sagas/gone-1\n"}, nil},
		{"commands", []string{"sagas", "w"}, []string{"wait\t", "watch\t"}, []string{"list"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"__complete"}, c.args...), address: f.Address})
			if got.code != problem.ExitOK {
				t.Fatalf("exit %d: %s", got.code, got.stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("%q isn't suggested:\n%s", want, got.stdout)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got.stdout, not) {
					t.Errorf("%q is suggested:\n%s", not, got.stdout)
				}
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		got := run(t, setup{args: []string{"__complete", "sagas", "get", ""}, address: "192.0.2.1:1"})
		if got.code != problem.ExitOK || strings.TrimSpace(got.stdout) != ":4" {
			t.Errorf("exit %d: %s", got.code, got.stdout)
		}
	})
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		t.Run(shell, func(t *testing.T) {
			got := run(t, setup{args: []string{"completion", shell}, address: f.Address})
			if got.code != problem.ExitOK || !strings.Contains(got.stdout, "treaty") {
				t.Errorf("exit %d: %s", got.code, got.stderr)
			}
		})
	}
}
