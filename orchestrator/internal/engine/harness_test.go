package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const (
	definition = "bench.v1.WorkSagas/Run"
	action     = "bench.v1.WorkService/Work"
	undo       = "bench.v1.WorkService/UndoWork"
)

// participant is a fake dispatcher with one participant. It answers at once unless a test says otherwise.
type participant struct {
	mu      sync.Mutex
	calls   []string // "action 1#2 SAGA" for the second attempt of step 1
	answers map[string][]engine.Answer
	hold    map[string]chan struct{} // calls that wait until the channel is closed
	held    chan string              // receives each call that waits
	parked  bool
	claims  []admission.Claim

	waitsSince time.Time // of the first command of a saga
	wakes      map[int]func()
	wakeNext   int
	delay      time.Duration

	closes map[string][]engine.Closed // by step
	known  map[string]engine.Known    // by step

	digests map[string]string // by command

	servers []string
}

func newParticipant() *participant {
	return &participant{
		answers: make(map[string][]engine.Answer), hold: make(map[string]chan struct{}), held: make(chan string, 100),
		wakes: make(map[int]func()), delay: 100 * time.Millisecond,
		closes: make(map[string][]engine.Closed), known: make(map[string]engine.Known),
		digests: make(map[string]string),
	}
}

// answer sets the answers to the next attempts of a command. Later attempts are done.
func (p *participant) answer(command string, results ...engine.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[command] = append(p.answers[command], results...)
}

// stall makes a command's attempts wait until the returned function is called.
func (p *participant) stall(command string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := make(chan struct{})
	p.hold[command] = ch
	return sync.OnceFunc(func() {
		p.mu.Lock()
		delete(p.hold, command)
		p.mu.Unlock()
		close(ch)
	})
}

func (p *participant) Attempt(ctx context.Context, a *engine.Attempt) engine.Answer {
	command := fmt.Sprintf("%s %s", a.Direction, a.Step)
	p.mu.Lock()
	line := fmt.Sprintf("%s#%d", command, a.Number)
	if a.Participant != "" {
		line += " at " + a.Participant
	}
	p.calls = append(p.calls, line)
	p.digests[command] = a.Digest
	hold := p.hold[command]
	p.mu.Unlock()
	if hold != nil {
		p.held <- command
		select {
		case <-hold:
		case <-ctx.Done():
			return failed(treatyv1.Outcome_OUTCOME_UNKNOWN, codes.Canceled)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if queued := p.answers[command]; len(queued) > 0 {
		p.answers[command] = queued[1:]
		return queued[0]
	}
	if a.Call.Method != action {
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: []byte{}}
	}
	reply, err := proto.Marshal(&benchv1.WorkDone{Payload: []byte("reply")})
	if err != nil {
		return failed(treatyv1.Outcome_OUTCOME_UNKNOWN, codes.Internal)
	}
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply}
}

func (p *participant) CloseCommand(_ context.Context, a *engine.Attempt) engine.Closed {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "close "+a.Step)
	if queued := p.closes[a.Step]; len(queued) > 0 {
		p.closes[a.Step] = queued[1:]
		return queued[0]
	}
	return engine.Closed{Verdict: engine.NotKept}
}

func (p *participant) LookUp(_ context.Context, a *engine.Attempt) engine.Known {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "look up "+a.Step)
	if known, ok := p.known[a.Step]; ok {
		return known
	}
	return engine.Known{Verdict: engine.NotKept}
}

func (p *participant) Delay(*contract.CallConfig, int, engine.Answer) time.Duration { return p.delay }

func (p *participant) Admit(
	_ engine.Destination, _ *contract.CallConfig, claim admission.Claim, granted func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, claim)
	if !p.parked {
		return nil, nil
	}
	p.wakeNext++
	n := p.wakeNext
	p.wakes[n] = func() { granted(nil) }
	return nil, &admission.Wait{Cancel: func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.wakes, n)
	}, Held: func() bool { return true }, Long: true}
}

func (p *participant) FirstWaitsSince(string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waitsSince, !p.waitsSince.IsZero()
}

func (p *participant) TakingPart(string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.servers
}

// configure sets the participants that take part in broadcasts.
func (p *participant) configure(servers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers = servers
}

func (p *participant) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked = true
}

func (p *participant) up() {
	p.mu.Lock()
	p.parked = false
	wakes := p.wakes
	p.wakes = make(map[int]func())
	p.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

func (p *participant) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.calls...)
}

func failed(outcome treatyv1.Outcome, code codes.Code) engine.Answer {
	answer := engine.Answer{Outcome: outcome, Failure: &treatyv1.Failure{
		Code: int32(code), Message: "answered by the fake",
	}}
	switch outcome {
	case treatyv1.Outcome_OUTCOME_REFUSED:
		answer.Evidence = engine.Settled
	case treatyv1.Outcome_OUTCOME_UNKNOWN:
	default:
		answer.Evidence = engine.AttemptNotRun
	}
	return answer
}

var (
	unknown = failed(treatyv1.Outcome_OUTCOME_UNKNOWN, codes.Unavailable)
	refused = failed(treatyv1.Outcome_OUTCOME_REFUSED, codes.FailedPrecondition)
)

// registrar collects definitions.
type registrar map[string]machine.Code

func (r registrar) RegisterSaga(d saga.Definition) { r[d.Name] = sagacode.Of(d) }

// run is a saga with the number of steps that its request says.
func run(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
	for i := range in.GetSteps() {
		request := &benchv1.WorkRequest{Step: i, Payload: in.GetPayload()}
		if err := saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, request, new(benchv1.WorkDone)); err != nil {
			return nil, err
		}
	}
	return &benchv1.RunDone{Steps: in.GetSteps()}, nil
}

// fixture is an engine on a memory store with a fake participant.
type fixture struct {
	t           *testing.T
	store       journal.Store
	participant *participant
	engine      *engine.Engine
	catalog     *contract.Catalog
	code        registrar

	beforeRecover func() // called between New and Recover, if set

	participants   engine.Participants
	retention      map[string]time.Duration
	childRetention time.Duration
	idRetention    time.Duration
	eventRetention time.Duration
	turnLimit      time.Duration
	logger         *slog.Logger     // default: none
	now            func() time.Time // default: time.Now
	observer       engine.Observer  // default: none
	startLimits    engine.StartLimits
	writable       func(cause error) // default: none
	valid          func() bool       // default: always
	fenced         func()            // default: none
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	w := &fixture{t: t, store: journaltest.NewMemory(), participant: newParticipant(), catalog: catalog,
		code: make(registrar)}
	saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName, run)
	w.open()
	t.Cleanup(func() { w.stop() })
	return w
}

// open makes an engine on the store, as a new process does.
func (w *fixture) open() {
	w.t.Helper()
	// Every command goes to the fake participant, but a child saga that a test starts completes its parent.
	if w.observer == nil {
		w.observer = engine.NoObserver{}
	}
	if w.logger == nil {
		w.logger = slog.New(slog.DiscardHandler)
	}
	children := childsaga.New(childsaga.Params{
		Participants: w.participant, Observer: w.observer, Catalog: w.catalog,
	})
	var err error
	w.engine, err = engine.New(w.t.Context(), engine.WithNow(engine.Config{
		Store: w.store, Dispatcher: children, Participants: w.participants, Observer: children, Catalog: w.catalog,
		Definitions: w.code, Logger: w.logger, Retention: w.retention,
		ChildRetention: w.childRetention,
		EventRetention: w.eventRetention, IDRetention: w.idRetention, StartLimits: w.startLimits,
		TurnLimit: w.turnLimit, Writable: w.writable, Valid: w.valid, Fenced: w.fenced,
		Local: func(method string) bool { return w.code[method] != nil },
	}, w.now))
	if err != nil {
		w.t.Fatal(err)
	}
	children.SetEngine(w.engine)
	if w.beforeRecover != nil {
		w.beforeRecover()
	}
	if _, err := w.engine.Recover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// stop stops the engine and cuts off its attempts.
func (w *fixture) stop() {
	w.t.Helper()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.engine.Stop(now)
}

func request(t *testing.T, steps int32) []byte {
	t.Helper()
	data, err := proto.Marshal(&benchv1.RunRequest{Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (w *fixture) start(steps int32) *engine.Handle {
	w.t.Helper()
	handle, err := w.engine.Start(w.t.Context(),
		engine.StartParams{Definition: definition, Request: request(w.t, steps)})
	if err != nil {
		w.t.Fatal(err)
	}
	return handle
}

func (w *fixture) await(id string) treatyv1.SagaState {
	w.t.Helper()
	end, err := w.engine.Await(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return end.State
}

func (w *fixture) get(id string) *treatyv1.Saga {
	w.t.Helper()
	got, err := w.engine.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

const (
	succeeded   = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	compensated = treatyv1.SagaState_SAGA_STATE_COMPENSATED
	suspended   = treatyv1.SagaState_SAGA_STATE_SUSPENDED
)

// hooked is a store that calls hooks.
type hooked struct {
	journal.Store
	afterOpen func()
	afterDue  func()
	onLoad    func()
	loadErr   func(id string) error
	onAppend  func([]*journal.Entry) error
	onRaise   func() error
}

func (h *hooked) Open(ctx context.Context, p journal.OpenParams) ([]*journal.Journal, error) {
	page, err := h.Store.Open(ctx, p)
	if h.afterOpen != nil {
		h.afterOpen()
	}
	return page, err
}

func (h *hooked) Due(ctx context.Context, until time.Time, n int) ([]journal.Due, error) {
	d, err := h.Store.Due(ctx, until, n)
	if h.afterDue != nil {
		h.afterDue()
	}
	return d, err
}

func (h *hooked) Load(ctx context.Context, id string) (*journal.Journal, error) {
	if h.onLoad != nil {
		h.onLoad()
	}
	if h.loadErr != nil {
		if err := h.loadErr(id); err != nil {
			return nil, err
		}
	}
	return h.Store.Load(ctx, id)
}

func (h *hooked) Append(ctx context.Context, g []*journal.Entry) error {
	if h.onAppend != nil {
		if err := h.onAppend(g); err != nil {
			return err
		}
	}
	return h.Store.Append(ctx, g)
}

func (h *hooked) RaisePosition(ctx context.Context, above uint64) (uint64, error) {
	if h.onRaise != nil {
		if err := h.onRaise(); err != nil {
			return 0, err
		}
	}
	return h.Store.RaisePosition(ctx, above)
}

// byAnn is a decision to cancel a saga, whatever its state.
var byAnn = engine.CancelParams{Decision: &treatyv1.Decision{Actor: "ann"}}
