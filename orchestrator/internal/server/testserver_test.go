package server_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/quota"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	changeAddress = "acme.customer.v1.CustomerSagas/ChangeAddress"
	issueCard     = "acme.card.v1.CardSagas/IssueCard"

	verifyApplicant     = "acme.identity.v1.IdentitySagas/VerifyApplicant"
	undoVerifyApplicant = "acme.identity.v1.IdentitySagas/UndoVerifyApplicant"
)

// fakeEngine returns what a test configures.
type fakeEngine struct {
	start  func(ctx context.Context, params engine.StartParams) (server.Started, error)
	await  func(ctx context.Context, id string) (engine.SagaEnd, error)
	cancel func(id string, params engine.CancelParams) error
	resume func(id string, params engine.ResumeParams) error
	forget func(id string, decision *treatyv1.Decision) error
	purge  func(id string, decision *treatyv1.Decision) (int, error)
	get    func(id string) (*treatyv1.Saga, error)

	complete        func(completion engine.Completion) error
	heartbeat       func(saga, step string, direction engine.Direction) error
	compensateChild func(ctx context.Context, params engine.StartParams) (undone bool, err error)
	closeChild      func(params engine.StartParams) (engine.Closed, error)
	childCommands   func(id string) ([]*treatyv1.KnownCommand, error)
	condition       error
	damage          map[string]error // by saga
	publish         func(events []*journal.Event) error

	mu       sync.Mutex
	watchers []chan struct{}
}

func (f *fakeEngine) Complete(_ context.Context, completion engine.Completion) error {
	return f.complete(completion)
}

func (f *fakeEngine) Heartbeat(_ context.Context, saga, step string, direction engine.Direction) error {
	return f.heartbeat(saga, step, direction)
}

func (f *fakeEngine) BeginCompensateChild(ctx context.Context, params engine.StartParams) (bool, error) {
	return f.compensateChild(ctx, params)
}

func (f *fakeEngine) CloseChild(_ context.Context, params engine.StartParams) (engine.Closed, error) {
	return f.closeChild(params)
}

func (f *fakeEngine) ChildCommands(_ context.Context, id string) ([]*treatyv1.KnownCommand, error) {
	return f.childCommands(id)
}

func (f *fakeEngine) Condition() error { return f.condition }

func (f *fakeEngine) Damage(id string) error { return f.damage[id] }

func (f *fakeEngine) Publish(_ context.Context, events []*journal.Event) (int, error) {
	if err := f.publish(events); err != nil {
		return 0, err
	}
	f.changed()
	return 0, nil
}

func (f *fakeEngine) WatchEvents() (<-chan struct{}, func()) {
	return f.subscribe(), func() {}
}

func (f *fakeEngine) Start(ctx context.Context, params engine.StartParams) (server.Started, error) {
	return f.start(ctx, params)
}

func (f *fakeEngine) Await(ctx context.Context, id string) (engine.SagaEnd, error) {
	if f.await == nil {
		<-ctx.Done()
		return engine.SagaEnd{}, context.Cause(ctx)
	}
	return f.await(ctx, id)
}

func (f *fakeEngine) Cancel(_ context.Context, id string, params engine.CancelParams) error {
	return f.cancel(id, params)
}

func (f *fakeEngine) Resume(_ context.Context, id string, params engine.ResumeParams) error {
	return f.resume(id, params)
}

func (f *fakeEngine) ForgetLost(_ context.Context, id string, decision *treatyv1.Decision) error {
	return f.forget(id, decision)
}

func (f *fakeEngine) Purge(_ context.Context, id string, decision *treatyv1.Decision) (int, error) {
	return f.purge(id, decision)
}

func (f *fakeEngine) Get(_ context.Context, id string) (*treatyv1.Saga, error) {
	if f.get == nil {
		return &treatyv1.Saga{Name: "sagas/" + id}, nil
	}
	return f.get(id)
}

func (f *fakeEngine) Watch(id string) server.SagaWatch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeWatch{f: f, id: id, changes: f.subscribeLocked(), first: true}
}

func (f *fakeEngine) subscribe() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subscribeLocked()
}

func (f *fakeEngine) subscribeLocked() <-chan struct{} {
	ch := make(chan struct{}, 1)
	f.watchers = append(f.watchers, ch)
	return ch
}

// fakeWatch returns what Get returns, at first and after each change.
type fakeWatch struct {
	f       *fakeEngine
	id      string
	changes <-chan struct{}
	first   bool
}

func (w *fakeWatch) Next(ctx context.Context) (*engine.SagaView, error) {
	if !w.first {
		select {
		case <-w.changes:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	w.first = false
	saga, err := w.f.Get(ctx, w.id)
	return &engine.SagaView{Saga: saga}, err
}

func (w *fakeWatch) Close() {}

// changed notifies all watchers.
func (f *fakeEngine) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ch := range f.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// handle is a started saga with the end that a test configures.
type handle struct {
	end       engine.SagaEnd
	err       error
	startedBy string
}

// StartedBy returns who has started the saga before.
func (h handle) StartedBy() string { return h.startedBy }

func (h handle) Await(ctx context.Context) (engine.SagaEnd, error) {
	if h.err == nil && h.end.State == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
		<-ctx.Done()
		return engine.SagaEnd{}, context.Cause(ctx)
	}
	return h.end, h.err
}

// Ended returns the saga's end, or false when it hasn't ended.
func (h handle) Ended(context.Context) (engine.SagaEnd, bool, error) {
	return h.end, h.end.State != treatyv1.SagaState_SAGA_STATE_UNSPECIFIED, h.err
}

// fakeStore holds rows and turns. Its events are in another store.
type fakeStore struct {
	server.ChildStore
	server.EventReader

	rows   []*journal.Row
	lost   []journal.LostSaga // sorted
	turns  []*treatyv1.Turn
	err    error
	listed journal.ListParams
}

func (f *fakeStore) List(_ context.Context, params journal.ListParams) ([]*journal.Row, error) {
	f.listed = params
	if f.err != nil {
		return nil, f.err
	}
	compare := func(a, b *journal.Row) int {
		at, bt := a.CreateTime, b.CreateTime
		if params.Order.By == journal.OrderByUpdateTime {
			at, bt = a.UpdateTime, b.UpdateTime
		}
		c := at.Compare(bt)
		if c == 0 {
			c = strings.Compare(a.ID, b.ID)
		}
		if params.Order.Descending {
			c = -c
		}
		return c
	}
	rows := slices.Clone(f.rows)
	slices.SortFunc(rows, compare)
	if params.After != nil {
		rows = slices.DeleteFunc(rows, func(r *journal.Row) bool { return compare(r, params.After) <= 0 })
	}
	return rows[:min(len(rows), params.Limit)], nil
}

func (f *fakeStore) Lost(_ context.Context, params journal.LostParams) ([]journal.LostSaga, error) {
	lost := slices.DeleteFunc(slices.Clone(f.lost), func(l journal.LostSaga) bool { return l.ID <= params.After })
	return lost[:min(len(lost), params.Limit)], f.err
}

func (f *fakeStore) Turns(_ context.Context, _ string, after uint64, limit int) ([]journal.Turn, error) {
	if f.err != nil {
		return nil, f.err
	}
	var out []journal.Turn
	for i, turn := range f.turns {
		if number := uint64(i + 1); number > after && len(out) < limit {
			data, err := proto.Marshal(turn)
			if err != nil {
				return nil, err
			}
			out = append(out, journal.Turn{Number: number, Data: data})
		}
	}
	return out, nil
}

// testServer is a server with fakes for its engine and store, and a client that is connected to it.
type testServer struct {
	t      *testing.T
	engine *fakeEngine
	store  *fakeStore
	server *server.Server
	conn   *grpc.ClientConn
	sagas  treatyv1.SagaServiceClient
	events treatyv1.EventServiceClient
	memory *journaltest.Memory // holds the events
}

// security configures TLS, telemetry and the identities of participants and parents of a test server.
type security struct {
	server, client *tls.Config
	telemetry      *telemetry.Telemetry
	identities     map[string][]string // by service
	parents        []string
	authorizer     access.Authorizer
	tokens         access.TokenVerifier // verified again every millisecond
	quota          quota.Limits         // of what callers hold
	eventLimit     int
	callerStarts   float64 // per second
}

func newTestServer(t *testing.T) *testServer { return newSecureTestServer(t, security{}) }

func newSecureTestServer(t *testing.T, tls security) *testServer {
	t.Helper()
	a := &testServer{t: t, engine: new(fakeEngine), store: new(fakeStore), memory: journaltest.NewMemory()}
	a.store.ChildStore, a.store.EventReader = a.memory, a.memory
	a.engine.publish = a.append
	a.serve(server.Config{
		Engine: a.engine, Store: a.store, Definitions: []string{
			changeAddress, issueCard, verifyApplicant,
		}, TLS: tls.server, Telemetry: tls.telemetry, Identities: tls.identities, Parents: tls.parents,
		Authorizer: tls.authorizer, Tokens: tls.tokens, TokenCheck: time.Millisecond,
		Quota: tls.quota, EventLimit: tls.eventLimit, CallerStarts: tls.callerStarts,
	}, tls.client)
	return a
}

// serve runs the server until the test ends and connects the client.
func (a *testServer) serve(config server.Config, client *tls.Config) {
	t := a.t
	t.Helper()
	var err error
	if config.Catalog, err = contract.Load(protoregistry.GlobalFiles); err != nil {
		t.Fatal(err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if a.server, err = server.New(config); err != nil {
		t.Fatal(err)
	}
	listener := testkit.Listen(t)
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(listener) }()
	creds := insecure.NewCredentials()
	if client != nil {
		creds = credentials.NewTLS(client)
	}
	a.conn = testkit.Dial(t, listener.Addr().String(), grpc.WithTransportCredentials(creds))
	a.sagas, a.events = treatyv1.NewSagaServiceClient(a.conn), treatyv1.NewEventServiceClient(a.conn)
	t.Cleanup(func() {
		_ = a.conn.Close()
		a.server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// append stores events as the engine does.
func (a *testServer) append(events []*journal.Event) error {
	for _, event := range events {
		event.StoreTime = time.Unix(1_800_000_000, 0)
		if event.Time.IsZero() {
			event.Time = event.StoreTime
		}
	}
	entry := &journal.Entry{Events: events}
	if err := a.memory.Append(a.t.Context(), []*journal.Entry{entry}); err != nil {
		return err
	}
	if entry.Err != nil {
		return engine.ErrOtherEvent
	}
	return nil
}

// ctx returns a context with a deadline for the calls of a test.
func (a *testServer) ctx() context.Context {
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	a.t.Cleanup(cancel)
	return ctx
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	held, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// failure holds the parts of an error that tests compare.
type failure struct {
	code   codes.Code
	reason treatyv1.ErrorReason
	saga   string
	field  string // of the first violation
}

func failureOf(t *testing.T, err error) failure {
	t.Helper()
	st := status.Convert(err)
	out := failure{code: st.Code()}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == wire.ErrorDomain {
				out.reason, out.saga = wire.ParseReason(detail.GetReason()), detail.GetMetadata()[wire.ErrorSaga]
			}
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				out.field = violations[0].GetField()
			}
		}
	}
	return out
}

func address() *customerv1.ChangeAddressSagaRequest {
	return &customerv1.ChangeAddressSagaRequest{
		Customer: "customers/ada", Address: &customerv1.Address{Lines: []string{"Main Street 1"}, City: "Springfield"},
	}
}

func application() *cardv1.IssueCardSagaRequest {
	return &cardv1.IssueCardSagaRequest{
		Product: "gold", Channel: "web", Person: &cardv1.Person{DisplayName: "Ada Byron", PassportNumber: "P1234567"},
	}
}
