package sagatest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/internal/sagarequest"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// World is an orchestrator with the participants of all linked contracts, in memory and in virtual time. Its methods,
// and those of its sagas, belong to the test's goroutine. Participants' handlers may call them, too, except for those
// that wait.
type World struct {
	t            testing.TB
	catalog      *contract.Catalog
	code         map[string]machine.Code
	logger       *slog.Logger
	participants *participants
	store        *journaltest.Memory
	cut          *cutStore // between the engine and the store
	wrapping     wrapping
	firstEpoch   uint64
	sagas        int

	// intercept publishes an event of a type with next, or does something else. Nil: it is published.
	intercept func(title string, next func() error) error

	mu     sync.Mutex
	engine *engine.Engine
	events int
}

// driving returns the engine that drives the sagas now.
func (w *World) driving() *engine.Engine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.engine
}

// Run runs a test of sagas. The function register registers their code, usually the same one that the program passes
// to orchestrator.Main. Run reports what is wrong with the contracts or the registration, and calls test otherwise.
//
// The test runs in a bubble of testing/synctest. So it can't call t.Run, and what it uses must not wait for anything
// outside of the bubble for longer than a moment. Sagas that haven't ended when the test returns are stopped.
func Run(t *testing.T, register func(saga.Registrar), test func(*World)) {
	t.Helper()
	code, catalog, err := collect(register)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(worldParams{
			t: t, code: code, catalog: catalog, logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.stop()
		test(w)
	})
}

// registrar collects definitions.
type registrar struct {
	code  map[string]machine.Code
	twice []string
}

// RegisterSaga adds a definition.
func (r *registrar) RegisterSaga(definition saga.Definition) {
	if r.code[definition.Name] != nil {
		r.twice = append(r.twice, definition.Name)
	}
	r.code[definition.Name] = sagacode.Of(definition)
}

// collect returns the registered code by definition, and the linked contracts.
func collect(register func(saga.Registrar)) (map[string]machine.Code, *contract.Catalog, error) {
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the linked contracts: %w", err)
	}
	r := &registrar{code: make(map[string]machine.Code)}
	if register != nil {
		register(r)
	}
	var errs []error
	if len(r.code) == 0 {
		errs = append(errs, errors.New("no saga is registered: "+
			"call the generated Register function of a saga service in register"))
	}
	for _, name := range r.twice {
		errs = append(errs, fmt.Errorf("saga %s is registered twice: register it once", name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.code)) {
		if _, ok := catalog.SagaDefinition(name); !ok {
			errs = append(errs, fmt.Errorf("no linked contract has the saga %s: "+
				"import the package that was generated from its contract", name))
		}
	}
	return r.code, catalog, errors.Join(errs...)
}

// worldParams are what a world consists of.
type worldParams struct {
	t        testing.TB
	code     map[string]machine.Code
	catalog  *contract.Catalog
	logger   *slog.Logger
	wrapping wrapping
}

// wrapping puts something between the engine and the rest of a world. Its zero value puts nothing there.
type wrapping struct {
	dispatcher func(engine.Dispatcher) engine.Dispatcher
	store      func(journal.Store) journal.Store
}

func newWorld(params worldParams) (*World, error) {
	w := &World{
		t: params.t, catalog: params.catalog, code: params.code, logger: params.logger, wrapping: params.wrapping,
		store: journaltest.NewMemory(),
	}
	w.participants = newParticipants(w)
	err := w.open()
	w.firstEpoch = w.store.Epoch()
	return w, err
}

// open makes an engine on the store, as a new process does.
func (w *World) open() error {
	hook := w.hook()
	w.cut = &cutStore{Store: w.store, hook: hook}
	var dispatcher engine.Dispatcher = w.participants
	if wrap := w.wrapping.dispatcher; wrap != nil {
		dispatcher = wrap(dispatcher)
	}
	var store journal.Store = w.cut
	if wrap := w.wrapping.store; wrap != nil {
		store = wrap(store)
	}
	children := childsaga.New(childsaga.Params{
		Participants: dispatcher, Observer: engine.NoObserver{}, Catalog: w.catalog,
		Definitions: slices.Sorted(maps.Keys(w.code)),
	})
	driving, err := engine.New(w.t.Context(), engine.Config{
		Store: store, Dispatcher: children, Observer: children, Local: children.Local, Catalog: w.catalog,
		Definitions: w.code, Logger: w.logger, SteadyClock: true,
	})
	if err != nil {
		return err
	}
	children.SetEngine(driving)
	w.mu.Lock()
	w.engine = driving
	w.mu.Unlock()
	_, err = driving.Recover(w.t.Context())
	return err
}

// hook returns the hook of the store that was open before.
func (w *World) hook() func(context.Context, []*journal.Entry, func() error) error {
	if w.cut == nil {
		return nil
	}
	return w.cut.hook
}

// stop ends the engine, and cuts off the commands in flight.
func (w *World) stop() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.driving().Stop(now)
}

// Crash ends the orchestrator as a kill does, and starts it again on the same store. What participants were doing, they
// do to the end; nobody hears their answers. Sagas continue from their journals.
func (w *World) Crash() {
	w.t.Helper()
	w.cut.dead.Store(true)
	w.stop()
	w.store = w.store.Reopen()
	if err := w.open(); err != nil {
		w.t.Fatalf("starting the orchestrator again: %v", err)
	}
}

// Start starts a saga, and returns once that is durable. The method is that of the saga definition, as the generated
// constants name it, e.g. "/acme.card.v1.CardSagas/IssueCard". The test fails if no such saga is registered, or if the
// request is another message or invalid. A start with the request id of an earlier one finds that saga.
func (w *World) Start(method string, request proto.Message) *Saga {
	w.t.Helper()
	w.sagas++
	s, err := w.start(w.t.Context(), "s"+strconv.Itoa(w.sagas), method, request)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// start starts a saga. A saga without a request id gets the given id.
func (w *World) start(ctx context.Context, id, method string, request proto.Message) (*Saga, error) {
	name := strings.TrimPrefix(method, "/")
	definition, err := w.definition(name)
	if err != nil {
		return nil, err
	}
	if request == nil {
		return nil, fmt.Errorf("starting %s: its request is a %s, not nil", name, definition.Input.FullName())
	}
	if got, want := request.ProtoReflect().Descriptor().FullName(), definition.Input.FullName(); got != want {
		return nil, fmt.Errorf("starting %s: its request is a %s, not a %s", name, want, got)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("starting %s: serializing the request: %w", name, err)
	}
	start, err := sagarequest.NewReader(definition).Read(data, "")
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	params := engine.StartParams{
		Definition: name, Request: data, RequestID: start.RequestID, Labels: start.Labels,
		Deadline: definition.Deadline,
	}
	if start.RequestID == "" {
		params.SagaID = id
	}
	handle, err := w.driving().Start(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return &Saga{world: w, definition: definition, id: handle.ID}, nil
}

func (w *World) definition(name string) (*contract.SagaDefinition, error) {
	if definition, ok := w.catalog.SagaDefinition(name); ok && w.code[name] != nil {
		return definition, nil
	}
	return nil, fmt.Errorf("starting %s: no such saga is registered; there are %s", name,
		strings.Join(slices.Sorted(maps.Keys(w.code)), ", "))
}

// Publish publishes an event, and wakes the sagas that await it. While the orchestrator is killed and started again, it
// waits. The test fails if the message isn't marked as an event
// in its contract, or if its correlation key is empty.
func (w *World) Publish(event proto.Message) {
	w.t.Helper()
	if err := w.publish(event); err != nil {
		w.t.Fatal(err)
	}
}

func (w *World) publish(message proto.Message) error {
	if message == nil {
		return errors.New("publishing an event: it is nil")
	}
	name := string(message.ProtoReflect().Descriptor().FullName())
	typ, ok := w.catalog.EventType(name)
	if !ok {
		return fmt.Errorf("publishing %s: its contract doesn't mark it as an event; "+
			"add option (treaty.v1.event) to the message", name)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("publishing %s: %w", name, err)
	}
	subject, err := typ.Subject(data)
	if err != nil {
		return fmt.Errorf("publishing %s: %w", name, err)
	}
	w.mu.Lock()
	w.events++
	id := strconv.Itoa(w.events)
	w.mu.Unlock()
	next := func() error {
		return w.whileDriving(func() error {
			_, err := w.driving().Publish(w.t.Context(), []*journal.Event{{
				Source: "test", ID: id, Type: name, Subject: subject, Data: data,
			}})
			return err
		})
	}
	if w.intercept != nil {
		err = w.intercept(short(name), next)
	} else {
		err = next()
	}
	if err != nil {
		return fmt.Errorf("publishing %s: %w", name, err)
	}
	return nil
}

// Advance lets time pass: all that is due within d happens. Then it waits until everything stands still.
func (w *World) Advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// Settle waits until everything stands still at this moment of virtual time: sagas wait for timers, events or
// completions, or have ended.
func (w *World) Settle() { synctest.Wait() }
