package dispatch

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/drift/drifttest"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// contracted is a participant that serves the methods of a contract, which may change while it runs. It counts the
// commands of each method, and the questions about its contract.
type contracted struct {
	files     atomic.Pointer[protoregistry.Files]
	asked     atomic.Int32
	refuse    error // the answer to every question
	onlyAlpha bool

	mu       sync.Mutex
	commands map[string]int
}

func newContracted(t *testing.T, change drifttest.Case) *contracted {
	t.Helper()
	p := &contracted{commands: make(map[string]int)}
	p.change(t, change)
	return p
}

// change replaces the contract.
func (p *contracted) change(t *testing.T, change drifttest.Case) {
	t.Helper()
	files, err := drifttest.Files(change)
	if err != nil {
		t.Fatal(err)
	}
	p.files.Store(files)
}

// FindFileByPath implements protodesc.Resolver with the present contract.
func (p *contracted) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return p.files.Load().FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver with the present contract.
func (p *contracted) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return p.files.Load().FindDescriptorByName(name)
}

// GetServiceInfo implements reflection.ServiceInfoProvider: it serves all services of the contract's file.
func (p *contracted) GetServiceInfo() map[string]grpc.ServiceInfo {
	served := make(map[string]grpc.ServiceInfo)
	if file, err := p.FindFileByPath(drifttest.Path); err == nil {
		for i := range file.Services().Len() {
			served[string(file.Services().Get(i).FullName())] = grpc.ServiceInfo{}
		}
	}
	return served
}

// server returns a server of the participant.
func (p *contracted) server() *grpc.Server {
	server := newServer(func(ctx context.Context, request []byte) ([]byte, error) {
		method, _ := grpc.Method(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.commands[strings.TrimPrefix(method, "/")]++
		return request, nil
	}, grpc.StreamInterceptor(func(
		served any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		if strings.HasPrefix(info.FullMethod, "/grpc.reflection.") {
			if p.onlyAlpha && !strings.Contains(info.FullMethod, ".v1alpha.") {
				return status.Error(codes.Unimplemented, "not served")
			}
			p.asked.Add(1)
			if p.refuse != nil {
				return p.refuse
			}
		}
		return handler(served, stream)
	}))
	options := reflection.ServerOptions{Services: p, DescriptorResolver: p}
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
	if p.onlyAlpha {
		return server
	}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
	return server
}

func (p *contracted) serve(t *testing.T, addr string) *server {
	t.Helper()
	s := p.server()
	return &server{Server: s, addr: testkit.ServeOn(t, s, addr)}
}

func (p *contracted) count(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commands[method]
}

// expecting makes a dispatcher expect the unchanged contract.
func expecting(t *testing.T, check ContractCheck) func(*testConfig) {
	t.Helper()
	files, err := drifttest.Files(drifttest.Case{})
	if err != nil {
		t.Fatal(err)
	}
	methods, err := drifttest.Methods(files)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *testConfig) {
		c.Participants[0].Services, c.Participants[0].Contracts = []string{drifttest.Service}, check
		c.Expected = []Expected{
			{Method: methods[drifttest.Reserve], Compensation: methods[drifttest.Release]},
			{Method: methods[drifttest.Ship]}, {Method: methods[drifttest.Count]},
		}
	}
}

// checked waits until the contracts of the participant were compared.
func checked(t *testing.T, d *Dispatcher) {
	t.Helper()
	done := make(chan struct{})
	if d.participants[0].contracts.wait(func() { close(done) }) {
		<-done
	}
}

func callOf(method string) *contract.CallConfig {
	return &contract.CallConfig{Method: method, Timeout: 10 * time.Second}
}

// send sends a command if it is admitted. Otherwise it returns why it waits, and what is closed when it waits no
// longer.
func send(t *testing.T, d *Dispatcher, method string) (why string, granted <-chan struct{}) {
	t.Helper()
	done := make(chan struct{})
	call := callOf(method)
	slot, wait := d.Admit(engine.Destination{Method: method}, call, admission.Claim{}, func(slot *admission.Slot) {
		slot.Release()
		close(done)
	})
	if wait != nil {
		if !wait.Held() || !wait.Long {
			t.Errorf("%s waits as if others were before it", method)
		}
		return wait.Why(), done
	}
	a := attempt()
	a.Call, a.Slot = call, slot
	if answer := d.Attempt(t.Context(), a); answer.Outcome != outcomeDone {
		t.Errorf("%s: %v", method, answer)
	}
	return "", nil
}

// TestDrift changes the contract of a participant in one place each. Commands of the methods that it breaks aren't
// sent, nor are actions whose compensation it breaks. All others are.
func TestDrift(t *testing.T) {
	all := []string{drifttest.Reserve, drifttest.Release, drifttest.Ship, drifttest.Count}
	breaking := drifttest.Breaking()
	if len(breaking) < 15 {
		t.Errorf("%d kinds of drift", len(breaking))
	}
	for _, change := range slices.Concat(breaking, drifttest.Harmless()) {
		t.Run(change.Name, func(t *testing.T) {
			p := newContracted(t, change)
			d := dispatcher(t, p.serve(t, anyPort).addr, expecting(t, ContractsChecked))
			checked(t, d)
			waits := make(map[string]bool)
			for _, method := range change.Breaks {
				waits[method] = true
				waits[drifttest.Reserve] = waits[drifttest.Reserve] || method == drifttest.Release
			}
			for _, method := range all {
				why, _ := send(t, d, method)
				if (why != "") != waits[method] || why != "" && !strings.Contains(why, change.Where) {
					t.Errorf("%s: waits %t, because %q; want %t, because of %q", method, why != "", why, waits[method],
						change.Where)
				}
				if why != "" && !strings.Contains(why, ".proto)") {
					t.Errorf("%s: %q names no file", method, why)
				}
				if got := p.count(method); (got == 0) != waits[method] {
					t.Errorf("%s was sent %d times", method, got)
				}
			}
		})
	}
}

// TestDriftBeforeTheFirstCommand sends commands as soon as there is a dispatcher: they wait until the contracts were
// compared.
func TestDriftBeforeTheFirstCommand(t *testing.T) {
	p := newContracted(t, drifttest.Case{Name: "type", From: "int32 amount", To: "sint32 amount"})
	d := dispatcher(t, p.serve(t, anyPort).addr, expecting(t, ContractsChecked))
	early := make(chan struct{})
	slot, wait := d.Admit(engine.Destination{Method: drifttest.Reserve}, callOf(drifttest.Reserve), admission.Claim{},
		func(*admission.Slot) { close(early) })
	if slot != nil {
		t.Fatal("a command was admitted before the contracts were compared")
	}
	checked(t, d)
	select {
	case <-early:
		t.Error("a command of another contract was admitted")
	default:
	}
	if why := wait.Why(); !strings.Contains(why, "drift.v1.ReserveRequest.amount (drift/v1/stock_service.proto): "+
		"was int32, is sint32") {
		t.Errorf("it waits because %q", why)
	}
	// An attempt that was admitted before is not made either.
	a := attempt()
	a.Call = callOf(drifttest.Reserve)
	if answer := d.Attempt(t.Context(), a); answer.Evidence != engine.AttemptNotRun || p.count(drifttest.Reserve) > 0 {
		t.Errorf("got %v, and %d commands", answer, p.count(drifttest.Reserve))
	}
}

// TestDriftRepaired deploys the right contract: what waited goes on, at the next connection or on the same one.
func TestDriftRepaired(t *testing.T) {
	broken := drifttest.Case{Name: "type", From: "int32 amount", To: "string amount"}
	for _, test := range []struct {
		name   string
		repair func(t *testing.T, p *contracted, s *server)
	}{
		{"another process at the same address", func(t *testing.T, _ *contracted, s *server) {
			t.Helper()
			s.Stop()
			newContracted(t, drifttest.Case{}).serve(t, s.addr)
		}},
		{"another process behind the same connection", func(t *testing.T, p *contracted, _ *server) {
			t.Helper()
			p.change(t, drifttest.Case{})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newContracted(t, broken)
			s := p.serve(t, anyPort)
			d := dispatcher(t, s.addr, expecting(t, ContractsChecked), func(c *testConfig) {
				c.driftedAfter = 10 * time.Millisecond
			})
			checked(t, d)
			why, granted := send(t, d, drifttest.Reserve)
			if why == "" {
				t.Fatal("a command of another contract was sent")
			}
			test.repair(t, p, s)
			<-granted
			if why, _ := send(t, d, drifttest.Reserve); why != "" {
				t.Errorf("after the repair it waits because %q", why)
			}
		})
	}
}

// TestDriftOfOneReplica has a replica with another contract: it gets only the commands that it understands.
func TestDriftOfOneReplica(t *testing.T) {
	good := newContracted(t, drifttest.Case{})
	bad := newContracted(t, drifttest.Case{Name: "type", From: "int32 amount", To: "sint32 amount"})
	port := freePort(t)
	goodServer := good.server()
	serveAt(t, goodServer, firstHost, port)
	serveAt(t, bad.server(), secondHost, port)
	d := dispatcher(t, startNameServer(t, firstHost, secondHost).target(port), named, expecting(t, ContractsChecked))
	checked(t, d)
	for bad.count(drifttest.Count) == 0 || good.count(drifttest.Reserve) < 20 {
		for _, method := range []string{drifttest.Reserve, drifttest.Count} {
			a := attempt()
			a.Call = callOf(method)
			d.Attempt(t.Context(), a)
		}
	}
	if got := bad.count(drifttest.Reserve); got > 0 {
		t.Errorf("the replica with another contract got %d commands", got)
	}
	// When the good one is gone, nothing is sent.
	goodServer.Stop()
	for {
		if why := trySend(d, drifttest.Reserve); why != "" {
			break
		}
	}
	if got := bad.count(drifttest.Reserve); got > 0 {
		t.Errorf("the replica with another contract got %d commands", got)
	}
}

// trySend is send for a participant that may just be going down.
func trySend(d *Dispatcher, method string) (why string) {
	slot, wait := d.Admit(engine.Destination{Method: method}, callOf(method), admission.Claim{},
		func(slot *admission.Slot) { slot.Release() })
	if wait != nil {
		wait.Cancel()
		return wait.Why()
	}
	a := attempt()
	a.Call, a.Slot = callOf(method), slot
	d.Attempt(context.Background(), a)
	return ""
}

// TestUnverified has participants whose contracts can't be compared.
func TestUnverified(t *testing.T) {
	for _, test := range []struct {
		name      string
		check     ContractCheck
		refuse    error
		onlyAlpha bool
		change    drifttest.Case
		sent      bool
		why       string
	}{
		{name: "no reflection", refuse: status.Error(codes.Unimplemented, "no"), sent: true},
		{name: "no reflection, strict", check: ContractsStrict, refuse: status.Error(codes.Unimplemented, "no"),
			why: "its contract can't be checked, and the orchestrator requires that " +
				"(--contracts drift.v1.StockService=strict): it has no server reflection"},
		{name: "an error", refuse: status.Error(codes.PermissionDenied, "not you"), sent: true},
		{name: "an error, strict", check: ContractsStrict, refuse: status.Error(codes.PermissionDenied, "not you"),
			why: "its server reflection can't be used"},
		{name: "unavailable, strict", check: ContractsStrict, refuse: status.Error(codes.Unavailable, "later"),
			why: "its server reflection doesn't answer"},
		{name: "only v1alpha, strict", check: ContractsStrict, onlyAlpha: true, sent: true},
		{name: "drifted, unchecked", check: ContractsUnchecked, sent: true, change: drifttest.Breaking()[5]},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newContracted(t, test.change)
			p.refuse, p.onlyAlpha = test.refuse, test.onlyAlpha
			d := dispatcher(t, p.serve(t, anyPort).addr, expecting(t, test.check))
			checked(t, d)
			why, _ := send(t, d, drifttest.Reserve)
			if (why == "") != test.sent || !strings.Contains(why, test.why) {
				t.Errorf("it waits because %q, want %q", why, test.why)
			}
			if asked := p.asked.Load() > 0; asked == (test.check == ContractsUnchecked) {
				t.Errorf("asked: %t", asked)
			}
		})
	}
}

// TestContractsDigest has participants that state the digest of their contracts on each stream. They are asked again
// only when it has changed.
func TestContractsDigest(t *testing.T) {
	p := newContracted(t, drifttest.Case{})
	file, err := p.FindFileByPath(drifttest.Path)
	if err != nil {
		t.Fatal(err)
	}
	start := func(addr, digest string) (*streamer, *server) {
		s := newStreamer(echo)
		s.response.Services, s.digest = []string{drifttest.Service}, digest
		program := p.server()
		treatyv1.RegisterParticipantServiceServer(program, s)
		return s, &server{Server: program, addr: testkit.ServeOn(t, program, addr)}
	}
	digest := drift.Digest(file)
	first, s := start(anyPort, digest)
	d := streamingDispatcher(t, s.addr, expecting(t, ContractsChecked))
	sendOn := func(s *streamer) {
		for s.streamed.Load() == 0 {
			a := ofEpoch()
			a.Call = callOf(drifttest.Reserve)
			d.Attempt(t.Context(), a)
		}
	}
	sendOn(first)
	if got := p.asked.Load(); got != 1 {
		t.Errorf("asked %d times, want once", got)
	}
	s.Stop()
	second, s := start(s.addr, digest)
	sendOn(second)
	if got := p.asked.Load(); got != 1 {
		t.Errorf("asked %d times with the same digest, want once", got)
	}
	s.Stop()
	p.change(t, drifttest.Case{Name: "type", From: "int32 amount", To: "sint32 amount"})
	third, _ := start(s.addr, strings.Repeat("1", 64))
	for why := ""; why == ""; why = trySend(d, drifttest.Reserve) {
		continue
	}
	if p.asked.Load() != 2 || third.streamed.Load() > 0 {
		t.Errorf("asked %d times, %d commands were sent", p.asked.Load(), third.streamed.Load())
	}
}

// TestReported checks what the log says: once per change.
func TestReported(t *testing.T) {
	p := newContracted(t, drifttest.Case{
		Name: "type", From: "int32 amount = 1", To: "sint32 amount = 1; bool more = 99",
	})
	s := p.serve(t, anyPort)
	var log capture
	d := dispatcher(t, s.addr, expecting(t, ContractsChecked), func(c *testConfig) { c.Logger = log.logger() })
	checked(t, d)
	s.Stop()
	p.serve(t, s.addr)
	for p.asked.Load() < 2 {
		<-time.After(time.Millisecond)
	}
	if got := d.loads()[0].ParkedMethods; got != 2 {
		t.Errorf("%d methods are parked, want 2", got)
	}
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		"have drifted from the orchestrator's": 1, "was int32, is sint32": 2, "ReserveRequest.more": 1,
		"commands wait": 1,
	} {
		got := 0
		for line := range strings.SplitSeq(log.text(), "\n") {
			if strings.Contains(line, text) {
				got++
			}
		}
		if got != want {
			t.Errorf("%d lines have %q, want %d:\n%s", got, text, want, log.text())
		}
	}
}
