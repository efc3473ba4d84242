package orchestrator

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// sleeper registers a saga that sleeps, and then does what only its own build does.
func sleeper(r saga.Registrar) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, _ *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			saga.Sleep(ctx, 24*time.Hour)
			return &customerv1.AddressAgreed{}, nil
		})
}

// TestUpgradeGate verifies a store while an orchestrator has it open: with that orchestrator's code, and with another
// build's.
func TestUpgradeGate(t *testing.T) {
	store := filepath.Join(t.TempDir(), "treaty.db")
	ready := make(chan Ready, 1)
	o, err := New(WithStore(store), WithLogger(slog.New(slog.DiscardHandler)), WithReady(func(r Ready) { ready <- r }))
	if err != nil {
		t.Fatal(err)
	}
	sleeper(o)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- o.ListenAndServe(ctx, "127.0.0.1:0") }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn := testkit.Dial(t, (<-ready).Address)
	request, err := anypb.New(&customerv1.ChangeAddressSagaRequest{Customer: "customers/ada"})
	if err != nil {
		t.Fatal(err)
	}
	asleep, err := treatyv1.NewSagaServiceClient(conn).CreateSaga(ctx, &treatyv1.CreateSagaRequest{
		Definition: "acme.customer.v1.CustomerSagas/ChangeAddress", Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		register func(saga.Registrar)
		store    string
		code     int
		says     []string
	}{
		{"the same build", sleeper, store, ExitOK, []string{"1 of 1 open saga can continue with this build"}},
		{"another build", register, store, ExitFailure, []string{
			"SAGA", "EXPECTED", "FOUND", asleep.GetName(), "RUNNING", "wait 1 until a time",
			"the code returned its reply",
			"1 of 1 open saga can't continue with this build",
		}},
		{"a build without the code", func(saga.Registrar) {}, store, ExitFailure, []string{"none is registered"}},
		{"no store", sleeper, store + "-not", ExitFailure, []string{"treaty.db-not"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := program{
				name: "acme", args: []string{"verify", "--store", test.store}, stdout: &out, stderr: &out,
				getenv: func(string) string { return "" }, register: test.register,
			}.run(t.Context())
			if code != test.code {
				t.Errorf("exit %d, want %d", code, test.code)
			}
			for _, want := range test.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it doesn't say %q:\n%s", want, out.String())
				}
			}
		})
	}
}
