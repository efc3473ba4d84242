package orchestrator_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// build is the environment variable that makes the test binary an orchestrator: a build of misbehaving sagas.
const build = "TREATY_TEST_BUILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(build); name != "" {
		os.Exit(orchestrator.Main(func(r saga.Registrar) { registerMisbehaving(r, name) }))
	}
	os.Exit(m.Run())
}

// registerMisbehaving registers a saga that misbehaves as its customer's name says. In the build "blocks" it always
// blocks.
func registerMisbehaving(r saga.Registrar, build string) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			change := func() error {
				return saga.Call(ctx, customerv1.CustomerService_ChangeAddress_FullMethodName,
					&customerv1.ChangeAddressRequest{Customer: in.GetCustomer()}, new(customerv1.AddressChanged))
			}
			behave := in.GetCustomer()
			if build == "blocks" {
				behave = "blocks"
			}
			var err error
			switch behave {
			case "blocks":
				<-make(chan struct{})
			case "loops":
				for i := 0; ; i++ {
					_ = i
				}
			case "goroutines":
				done := make(chan error)
				go func() { done <- change() }()
				go func() { done <- change() }()
				if err = <-done; err == nil {
					err = <-done
				}
			case "pauses":
				saga.Logger(ctx).Info("the code pauses")
				<-time.After(500 * time.Millisecond) // less than the limit
				err = change()
			case "sleeps":
				saga.Sleep(ctx, time.Hour)
			default:
				err = change()
			}
			return &customerv1.AddressAgreed{Customer: in.GetCustomer()}, err
		})
}

// process is an orchestrator in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	store  string
	client treatyv1.SagaServiceClient
	health healthv1.HealthClient

	mu     sync.Mutex
	stderr strings.Builder
	paused chan struct{} // closed when the code of a saga pauses
	once   sync.Once
}

// startProcess starts a build and waits until it serves.
func startProcess(t *testing.T, build string, p *participants, store string, args ...string) *process {
	t.Helper()
	t.Helper()
	o := &process{t: t, store: store, paused: make(chan struct{})}
	o.cmd = o.command(build, append([]string{"--listen", "127.0.0.1:0", "--participant",
		customerService + "=" + p.address}, args...)...)
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	o.cmd.Stderr = o
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
		if t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Log(o.stderr.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("it doesn't serve: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	conn := testkit.Dial(t, strings.Fields(line)[3])
	o.client, o.health = treatyv1.NewSagaServiceClient(conn), healthv1.NewHealthClient(conn)
	return o
}

func (o *process) command(name string, args ...string) *exec.Cmd {
	executable, err := os.Executable()
	if err != nil {
		o.t.Fatal(err)
	}
	cmd := exec.CommandContext(o.t.Context(), executable, append(args, "--store", o.store)...)
	cmd.Env = append(os.Environ(), build+"="+name)
	return cmd
}

// Write keeps what the process logs.
func (o *process) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.Contains(string(line), "the code pauses") {
		o.once.Do(func() { close(o.paused) })
	}
	return o.stderr.Write(line)
}

// begin starts a saga that behaves as told.
func (o *process) begin(behaves string) string {
	o.t.Helper()
	request, err := anypb.New(&customerv1.ChangeAddressSagaRequest{Customer: behaves})
	if err != nil {
		o.t.Fatal(err)
	}
	begun, err := o.client.CreateSaga(o.t.Context(), &treatyv1.CreateSagaRequest{
		Definition: changeAddress, Request: request,
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return begun.GetName()
}

// want waits until a saga is suspended or has ended, and checks in which state.
func (o *process) want(name string, state treatyv1.SagaState) *treatyv1.Saga {
	o.t.Helper()
	watch, err := o.client.WatchSaga(o.t.Context(), &treatyv1.WatchSagaRequest{Name: name})
	if err != nil {
		o.t.Fatal(err)
	}
	for {
		got, err := watch.Recv()
		if err != nil {
			o.t.Fatalf("watching %s: %v", name, err)
		}
		switch s := got.GetSaga(); s.GetState() {
		case treatyv1.SagaState_SAGA_STATE_RUNNING, treatyv1.SagaState_SAGA_STATE_COMPENSATING:
		case state:
			return s
		default:
			o.t.Fatalf("%s is %v (%v), want %v", name, s.GetState(), s.GetSuspension(), state)
		}
	}
}

// end sends the process a signal and waits until it has ended.
func (o *process) end(signal os.Signal) {
	o.t.Helper()
	if err := o.cmd.Process.Signal(signal); err != nil {
		o.t.Fatal(err)
	}
	err := o.cmd.Wait()
	if signal != os.Kill && err != nil {
		o.t.Errorf("it ended with %v", err)
	}
}

const (
	succeeded   = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	compensated = treatyv1.SagaState_SAGA_STATE_COMPENSATED
	suspended   = treatyv1.SagaState_SAGA_STATE_SUSPENDED
)

func wantReason(t *testing.T, s *treatyv1.Saga, reason treatyv1.SuspensionReason, says string) {
	t.Helper()
	if got := s.GetSuspension(); got.GetReason() != reason || !strings.Contains(got.GetMessage(), says) {
		t.Errorf("suspended for %v: %s", got.GetReason(), got.GetMessage())
	}
}

// TestGoroutinesInSagaCode runs a saga whose code sends commands from goroutines, over real processes. It is suspended;
// the process serves other sagas, is killed, starts again, and resumes and cancels the saga.
func TestGoroutinesInSagaCode(t *testing.T) {
	const says = "a Context was used on another goroutine"
	p, store := newParticipants(t), filepath.Join(t.TempDir(), "treaty.db")
	o := startProcess(t, "usual", p, store)
	bad := o.begin("goroutines")
	wantReason(t, o.want(bad, suspended), treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC, says)
	o.want(o.begin("fine"), succeeded)
	o.end(os.Kill)

	o = startProcess(t, "usual", p, store)
	decision := &treatyv1.Decision{Actor: "ada", Reason: "perhaps it works now"}
	resume := &treatyv1.ResumeSagaRequest{
		Name: bad, Decision: decision, Etag: o.want(bad, suspended).GetEtag(),
		How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
	}
	if _, err := o.client.ResumeSaga(t.Context(), resume); err != nil {
		t.Fatal(err)
	}
	again := o.want(bad, suspended)
	wantReason(t, again, treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC, says)
	// The answer was lost, say, and a proxy sends the call again. It isn't about the next suspension.
	if _, err := o.client.ResumeSaga(t.Context(), resume); status.Code(err) != codes.Aborted {
		t.Errorf("the resume that is sent again: %v", err)
	}
	if got := o.want(bad, suspended); !proto.Equal(got, again) {
		t.Errorf("it is %v, and was %v", got, again)
	}
	o.want(o.begin("fine"), succeeded)
	if _, err := o.client.CancelSaga(t.Context(), &treatyv1.CancelSagaRequest{
		Name: bad, Decision: decision,
	}); err != nil {
		t.Fatal(err)
	}
	o.want(bad, compensated)
	if calls := p.seen(); calls != "ChangeAddress"+" ChangeAddress" {
		t.Errorf("the participant saw %s", calls)
	}
	o.end(syscall.SIGTERM)
}

// TestCodeThatBlocks runs sagas whose code blocks, over real processes. They are suspended, and nothing waits for them:
// other sagas, a cancellation, the end of the process, the start of a build whose code always blocks, and its upgrade
// gate.
func TestCodeThatBlocks(t *testing.T) {
	stuck := treatyv1.SuspensionReason_SUSPENSION_REASON_STUCK
	p, store := newParticipants(t), filepath.Join(t.TempDir(), "treaty.db")
	o := startProcess(t, "usual", p, store, "--turn-limit", "1s")
	blocked, looping := o.begin("blocks"), o.begin("loops")
	o.want(o.begin("fine"), succeeded)
	wantReason(t, o.want(blocked, suspended), stuck, "at misbehaving_test.go:")
	wantReason(t, o.want(looping, suspended), stuck, "at misbehaving_test.go:")
	if found := o.want(blocked, suspended).GetSuspension().GetFound(); !strings.Contains(found,
		"registerMisbehaving") {
		t.Errorf("the stack is %q", found)
	}
	if _, err := o.client.CancelSaga(t.Context(),
		&treatyv1.CancelSagaRequest{Name: blocked, Decision: &treatyv1.Decision{
			Actor: "ada", Reason: "a defect",
		}}); err != nil {
		t.Fatal(err)
	}
	o.want(blocked, compensated)
	asleep := o.begin("sleeps")
	o.begin("blocks") // the process doesn't wait for it
	o.end(syscall.SIGTERM)

	out, err := o.command("blocks", "verify", "--turn-limit", "1s").CombinedOutput()
	if err == nil || !strings.Contains(string(out), asleep) ||
		!strings.Contains(string(out), "code that blocks at misbehaving_test.go:") {
		t.Errorf("the upgrade gate says (%v):\n%s", err, out)
	}
	o = startProcess(t, "blocks", p, store, "--turn-limit", "1s")
	health, err := o.health.Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	o.end(syscall.SIGTERM)
}

// TestStoppedProcess stops a process with a signal while the code of a saga runs, for longer than the code may run. The
// saga isn't suspended for it.
func TestStoppedProcess(t *testing.T) {
	p, store := newParticipants(t), filepath.Join(t.TempDir(), "treaty.db")
	o := startProcess(t, "usual", p, store, "--turn-limit", "1s")
	name := make(chan string, 1)
	go func() { name <- o.begin("pauses") }()
	<-o.paused
	if err := o.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Second) // it must be longer than the limit, in real time
	if err := o.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	o.want(<-name, succeeded)
}
