package client_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/treatyhq/treaty/client"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// orchestratorVariable makes the test's program an orchestrator.
const orchestratorVariable = "TREATY_CLIENT_TEST_ORCHESTRATOR"

func TestMain(m *testing.M) {
	if os.Getenv(orchestratorVariable) != "" {
		os.Exit(orchestrator.Main(func(r saga.Registrar) { register(r, func() {}) }))
	}
	os.Exit(m.Run())
}

// startProcess runs the orchestrator as a process of its own, until the returned function kills it.
func (s *system) startProcess() (kill func()) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	process := exec.CommandContext(ctx, self) // which kills with SIGKILL
	process.Env = append(os.Environ(), orchestratorVariable+"=1", "TREATY_LISTEN="+s.address, "TREATY_STORE="+s.store,
		"TREATY_PARTICIPANT=acme.customer.v1.CustomerService="+s.participant, "TREATY_LOG_LEVEL=error")
	process.Stderr = os.Stderr
	stdout, err := process.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		s.t.Fatal(err)
	}
	kill = func() {
		cancel()
		_ = process.Wait() // it was killed
	}
	s.t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.Contains(line, " serving on ") {
		s.t.Fatalf("the orchestrator doesn't serve: %q, %v", line, err)
	}
	return kill
}

// TestRunOverKill kills the orchestrator's process twice while a call waits and the saga's command is in flight, and
// starts it again at the same address.
func TestRunOverKill(t *testing.T) {
	s := newSystem(t)
	kill := s.startProcess()
	var (
		agreed *customerv1.AddressAgreed
		ended  = make(chan error, 1)
	)
	go func() {
		var err error
		agreed, err = s.run(s.address, "customers/ada")
		ended <- err
	}()
	for range 2 {
		<-s.arrived // it is in flight when the orchestrator dies
		kill()
		kill = s.startProcess()
	}
	close(s.release)
	if err := <-ended; err != nil || agreed.GetAddressRevision() != 2 {
		t.Errorf("%v, %v", agreed, err)
	}
	if sagas := s.sagas(); len(sagas) != 1 || sagas[0].GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("the orchestrator has %v; want one saga, which succeeded", sagas)
	}
}

// sagas lists all sagas.
func (s *system) sagas() []*treatyv1.Saga {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	listed, err := treatyv1.NewSagaServiceClient(testkit.Dial(s.t, s.address)).ListSagas(ctx,
		&treatyv1.ListSagasRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return listed.GetSagas()
}

// TestRunWithoutField starts a saga whose request has no field for the request id, over a connection that breaks.
func TestRunWithoutField(t *testing.T) {
	s := newSystem(t)
	s.open()
	for name, drop := range map[string]bool{"kept": false, "dropped": true} {
		t.Run(name, func(t *testing.T) {
			middle, err := hostile.Listen(s.address, hostile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer middle.Close()
			var calls atomic.Int32
			middle.Program(func(*hostile.Call) hostile.Plan {
				plan := hostile.Pass()
				if calls.Add(1) == 1 {
					plan = hostile.Give(hostile.CloseConn(), hostile.AfterHeaders)
				}
				if drop {
					plan = plan.WithoutMetadata("treaty-request-id")
				}
				return plan
			})
			before := len(s.sagas())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err = client.Run(ctx, benchv1.NewWorkSagasClient(testkit.Dial(t, middle.Addr())).Run,
				&benchv1.RunRequest{})
			if dropped := err != nil && strings.Contains(err.Error(), "treaty-request-id"); dropped != drop {
				t.Errorf("error %v", err)
			}
			if n, want := len(s.sagas())-before, map[bool]int{false: 1, true: 2}[drop]; n != want {
				t.Errorf("%d sagas, want %d", n, want)
			}
		})
	}
}
