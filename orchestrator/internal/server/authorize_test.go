package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// authorizer allows what a function allows, and remembers what it was asked.
type authorizer struct {
	mu      sync.Mutex
	allow   func(access.Request) bool
	asked   []access.Request
	changed chan struct{}
}

func newAuthorizer(allow func(access.Request) bool) *authorizer {
	return &authorizer{allow: allow, changed: make(chan struct{})}
}

func (a *authorizer) Authorize(_ context.Context, request access.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, request)
	if a.allow(request) {
		return nil
	}
	return errors.New("the secret reason")
}

func (a *authorizer) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// change replaces what is allowed.
func (a *authorizer) change(allow func(access.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.allow = allow
	close(a.changed)
	a.changed = make(chan struct{})
}

// forget returns what was asked, and forgets it.
func (a *authorizer) forget() []access.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.asked = nil }()
	return a.asked
}

func nothing(access.Request) bool    { return false }
func everything(access.Request) bool { return true }

// call calls a method with an empty request, and returns its error.
func (a *testServer) call(method string, stream bool) error {
	reply := new(emptypb.Empty)
	if !stream {
		return a.conn.Invoke(a.ctx(), "/"+method, raw(""), reply, grpc.ForceCodec(rawCodec{}))
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := a.conn.NewStream(a.ctx(), desc, "/"+method, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	// A stream that was refused already is io.EOF here. RecvMsg tells why.
	if err := errors.Join(opened.SendMsg(raw("")), opened.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return opened.RecvMsg(reply)
}

// TestEveryMethodAsks calls every method that the server serves, as somebody who may do nothing.
func TestEveryMethodAsks(t *testing.T) {
	a := newSecureTestServer(t, security{authorizer: newAuthorizer(nothing), parents: []string{caller.Any}})
	a.engine.get = func(string) (*treatyv1.Saga, error) { return nil, journal.ErrNotFound }
	names, streams := a.server.Methods()
	if len(names) < 30 {
		t.Fatalf("only %d methods are served: %q", len(names), names)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "grpc.health.") || strings.HasPrefix(name, "grpc.reflection.") {
			if err := a.call(name, streams[name]); status.Code(err) == codes.PermissionDenied {
				t.Errorf("%s: %v, but everybody may call it", name, err)
			}
			continue
		}
		want := failure{code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED}
		if strings.HasPrefix(name, "treaty.v1.ParticipantService/") || name == undoVerifyApplicant {
			// To a parent's orchestrator, a refusal would mean that its saga fails.
			want = failure{
				code: codes.Unauthenticated, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
			}
		}
		err := a.call(name, streams[name])
		if got := failureOf(t, err); got != want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %+v, want %+v (%v)", name, got, want, err)
		}
	}
}

// TestMethodWithoutRule serves a method that nobody has thought of.
func TestMethodWithoutRule(t *testing.T) {
	a := newTestServer(t)
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Engine: a.engine, Store: a.store, Catalog: catalog})
	if err != nil {
		t.Fatal(err)
	}
	err = s.ServeUnasked(&grpc.ServiceDesc{
		ServiceName: "acme.New", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Do"}},
	})
	if err == nil || !strings.Contains(err.Error(), "acme.New/Do") {
		t.Errorf("got %v, want an error that names the method", err)
	}
}

// TestAsks makes one call of each kind, and compares what the authorizer was asked.
func TestAsks(t *testing.T) {
	const saga, step = "sagas/a1", "sagas/a1/steps/2.1.1"
	event := pack(t, &identityv1.PassportInspected{Inspection: "inspections/1"})
	published := func(source string) *treatyv1.PublishedEvent {
		return &treatyv1.PublishedEvent{Id: source, Source: source, Data: event}
	}
	const inspected = "acme.identity.v1.PassportInspected"
	decision := &treatyv1.Decision{Actor: "ada", Reason: "so"}
	of := func(action access.Action) []access.Request {
		return []access.Request{{Action: action, Definition: issueCard, Saga: saga}}
	}
	for _, test := range []struct {
		name string
		call func(ctx context.Context, a *testServer) error
		want []access.Request // without the principal
	}{
		{"a saga's own method", func(ctx context.Context, a *testServer) error {
			return a.conn.Invoke(ctx, "/"+changeAddress, address(), new(customerv1.AddressAgreed))
		}, []access.Request{{Action: access.Start, Definition: changeAddress}}},
		{"create", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.CreateSaga(ctx, &treatyv1.CreateSagaRequest{
				Definition: "/" + changeAddress, Request: pack(t, address()),
			})
			return err
		}, []access.Request{{Action: access.Start, Definition: changeAddress}}},
		{"get", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: saga})
			return err
		}, of(access.Read)},
		{"wait", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: saga})
			return err
		}, of(access.Read)},
		{"records", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.ListSagaRecords(ctx, &treatyv1.ListSagaRecordsRequest{Parent: saga})
			return err
		}, of(access.Read)},
		{"list", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{})
			return err
		}, []access.Request{{Action: access.Read}}},
		{"cancel", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.CancelSaga(ctx, &treatyv1.CancelSagaRequest{Name: saga})
			return err
		}, of(access.Cancel)},
		{"resume", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.ResumeSaga(ctx, &treatyv1.ResumeSagaRequest{
				Name: saga, Decision: decision,
				How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
			})
			return err
		}, of(access.Resume)},
		{"purge", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.PurgeSaga(ctx, &treatyv1.PurgeSagaRequest{Name: saga, Decision: decision})
			return err
		}, of(access.Administer)},
		{"forget a lost saga", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.DeleteLostSaga(ctx, &treatyv1.DeleteLostSagaRequest{Name: saga, Decision: decision})
			return err
		}, of(access.Administer)},
		{"heartbeat", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.HeartbeatStep(ctx, &treatyv1.HeartbeatStepRequest{Name: step, Direction: action})
			return err
		}, []access.Request{{
			Action: access.Complete, Definition: issueCard, Saga: saga,
			Method: "acme.identity.v1.IdentityService/InspectPassport",
		}}},
		{"complete a compensation", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.CompleteStep(ctx, &treatyv1.CompleteStepRequest{
				Name: step, Direction: compensation, How: &treatyv1.CompleteStepRequest_Reply{
					Reply: pack(t, &identityv1.InspectionDiscarded{}),
				},
			})
			return err
		}, []access.Request{{
			Action: access.Complete, Definition: issueCard, Saga: saga,
			Method: "acme.identity.v1.IdentityService/DiscardInspection",
		}}},
		{"complete as a person", func(ctx context.Context, a *testServer) error {
			_, err := a.sagas.CompleteStep(ctx, &treatyv1.CompleteStepRequest{
				Name: step, Direction: action, Decision: decision,
				How: &treatyv1.CompleteStepRequest_Reply{Reply: event},
			})
			return err
		}, []access.Request{{
			Action: access.Resume, Definition: issueCard, Saga: saga,
			Method: "acme.identity.v1.IdentityService/InspectPassport",
		}}},
		{"publish", func(ctx context.Context, a *testServer) error {
			_, err := a.events.PublishEvents(ctx, &treatyv1.PublishEventsRequest{
				Events: []*treatyv1.PublishedEvent{published("a"), published("b")},
			})
			return err
		}, []access.Request{
			{Action: access.Publish, EventType: inspected, Source: "a"},
			{Action: access.Publish, EventType: inspected, Source: "b"},
		}},
		{"acknowledge", func(ctx context.Context, a *testServer) error {
			_, err := a.events.AcknowledgeEvents(ctx, &treatyv1.AcknowledgeEventsRequest{Consumer: "c", Position: 1})
			return err
		}, []access.Request{{Action: access.Consume, Consumer: "c"}}},
		{"stream", func(ctx context.Context, a *testServer) error {
			stream, err := a.events.StreamEvents(ctx, &treatyv1.StreamEventsRequest{
				Consumer: "c", Types: []string{inspected}, AfterPosition: 9,
			})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, []access.Request{{Action: access.Consume, Consumer: "c", EventType: inspected}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := newAuthorizer(everything)
			a := newSecureTestServer(t, security{authorizer: rules})
			a.store.rows = []*journal.Row{{ID: "a1"}}
			end := handle{end: succeeded(t, &customerv1.AddressAgreed{})}
			a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) { return end, nil }
			a.engine.get = func(id string) (*treatyv1.Saga, error) {
				found := inspecting(id)
				found.Definition = issueCard
				return found, nil
			}
			a.engine.await = func(context.Context, string) (engine.SagaEnd, error) { return end.end, nil }
			a.engine.cancel = func(string, engine.CancelParams) error { return nil }
			a.engine.resume = func(string, engine.ResumeParams) error { return nil }
			a.engine.purge = func(string, *treatyv1.Decision) (int, error) { return 1, nil }
			a.engine.forget = func(string, *treatyv1.Decision) error { return nil }
			a.engine.complete = func(engine.Completion) error { return nil }
			a.engine.heartbeat = func(string, string, engine.Direction) error { return nil }
			err := test.call(a.ctx(), a)
			if code := status.Code(err); code == codes.PermissionDenied || code == codes.Unauthenticated {
				t.Errorf("refused: %v", err)
			}
			got := slices.DeleteFunc(rules.forget(), func(r access.Request) bool {
				return r.Action == access.ReadSecrets // decides about texts only: see TestRefusalTexts
			})
			slices.SortFunc(got, func(a, b access.Request) int { return strings.Compare(a.Source, b.Source) })
			for i := range got {
				if kind := got[i].Principal.Kind; kind != access.Anonymous {
					t.Errorf("loopback was believed although there is an authorizer: the caller is %q", kind)
				}
				got[i].Principal = access.Principal{}
			}
			if !slices.EqualFunc(slices.Compact(keys(got)), keys(test.want), func(a, b string) bool { return a == b }) {
				t.Errorf("asked %+v, want %+v", got, test.want)
			}
			rules.change(nothing)
			if got := failureOf(t, test.call(a.ctx(), a)); got.code != codes.PermissionDenied ||
				got.reason != treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED {
				t.Errorf("got %+v, want a refusal", got)
			}
		})
	}
}

// keys returns requests as texts.
func keys(requests []access.Request) (texts []string) {
	for _, r := range requests {
		texts = append(texts, strings.Join([]string{
			string(r.Action), r.Definition, r.Saga, r.Method, r.EventType, r.Source, r.Consumer,
		}, "|"))
	}
	return texts
}

// TestRefusalsDoNotTell asks for a saga, a step and a decision that exist, and for ones that don't.
func TestRefusalsDoNotTell(t *testing.T) {
	a := newSecureTestServer(t, security{authorizer: newAuthorizer(func(r access.Request) bool {
		return r.Definition == changeAddress
	})})
	calls := map[string]func() error{
		"get": func() error {
			_, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"})
			return err
		},
		"cancel": func() error {
			_, err := a.sagas.CancelSaga(a.ctx(), &treatyv1.CancelSagaRequest{Name: "sagas/a1"})
			return err
		},
		"complete": func() error {
			_, err := a.sagas.CompleteStep(a.ctx(), &treatyv1.CompleteStepRequest{
				Name: "sagas/a1/steps/2.1.1", Direction: action,
			})
			return err
		},
	}
	for name, call := range calls {
		a.engine.get = func(string) (*treatyv1.Saga, error) { return nil, journal.ErrNotFound }
		missing := call()
		a.engine.get = func(id string) (*treatyv1.Saga, error) {
			saga := inspecting(id)
			saga.Definition = issueCard
			return saga, nil
		}
		existing := call()
		if status.Code(existing) != codes.PermissionDenied ||
			existing.Error() != missing.Error() || details(existing) != details(missing) {
			t.Errorf("%s: one that exists: %v; one that doesn't: %v", name, existing, missing)
		}
	}
}

// details returns the details of a status as text.
func details(err error) string { return fmt.Sprint(status.Convert(err).Details()...) }

// TestListsOnlyWhatMayBeRead lists sagas as somebody who may read those of two definitions.
func TestListsOnlyWhatMayBeRead(t *testing.T) {
	rules := newAuthorizer(func(r access.Request) bool {
		return r.Action == access.Read && (r.Definition == changeAddress || r.Definition == issueCard)
	})
	a := newSecureTestServer(t, security{authorizer: rules})
	one := func(definition string) *journal.Filter {
		return &journal.Filter{Op: journal.Equal, Field: journal.FieldDefinition, Text: definition}
	}
	both := &journal.Filter{Op: journal.Or, Args: []*journal.Filter{one(issueCard), one(changeAddress)}}
	given := &journal.Filter{Op: journal.Equal, Field: journal.FieldState, Text: "SUSPENDED"}
	for filter, want := range map[string]*journal.Filter{
		"":                  both,
		`state = SUSPENDED`: {Op: journal.And, Args: []*journal.Filter{given, both}},
	} {
		if _, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{Filter: filter}); err != nil {
			t.Fatal(err)
		}
		if got := describe(a.store.listed.Filter); got != describe(want) {
			t.Errorf("filter %q: the store was asked for %s, want %s", filter, got, describe(want))
		}
	}
	rules.change(func(r access.Request) bool { return r.Definition == changeAddress })
	if _, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := describe(a.store.listed.Filter); got != describe(one(changeAddress)) {
		t.Errorf("with one definition, the store was asked for %s", got)
	}
	rules.change(everything)
	if _, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{}); err != nil || a.store.listed.Filter != nil {
		t.Errorf("with all, the store was asked for %s, %v", describe(a.store.listed.Filter), err)
	}
}

func describe(f *journal.Filter) string {
	if f == nil {
		return "all"
	}
	text := []string{f.Text}
	for _, arg := range f.Args {
		text = append(text, describe(arg))
	}
	return "(" + []string{"", "and", "or", "not", "=", "!=", "<", "<=", ">", ">="}[f.Op] + " " +
		strings.Join(text, " ") + ")"
}

// TestOpenCallsAreAskedForAgain changes what is allowed while calls are open.
func TestOpenCallsAreAskedForAgain(t *testing.T) {
	rules := newAuthorizer(everything)
	a := newSecureTestServer(t, security{authorizer: rules})
	a.engine.get = func(id string) (*treatyv1.Saga, error) {
		return &treatyv1.Saga{Name: "sagas/" + id, Definition: changeAddress}, nil
	}
	watch, err := a.sagas.WatchSaga(a.ctx(), &treatyv1.WatchSagaRequest{Name: "sagas/a1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	open := func() grpc.ServerStreamingClient[treatyv1.StreamEventsResponse] {
		stream, err := a.events.StreamEvents(a.ctx(), &treatyv1.StreamEventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	events := open()
	waiting, waited := make(chan struct{}), make(chan error, 1)
	a.engine.await = func(ctx context.Context, _ string) (engine.SagaEnd, error) {
		close(waiting)
		<-ctx.Done()
		return engine.SagaEnd{}, context.Cause(ctx)
	}
	go func() {
		_, err := a.sagas.WaitSaga(a.ctx(), &treatyv1.WaitSagaRequest{Name: "sagas/a1"})
		waited <- err
	}()
	<-waiting
	rules.forget()
	rules.change(func(r access.Request) bool { return r.Action == access.Consume })
	_, watchErr := watch.Recv()
	for name, err := range map[string]error{"watch": watchErr, "wait": <-waited} {
		if got := failureOf(t, err); got.code != codes.PermissionDenied ||
			got.reason != treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	// The stream of events is still allowed, and goes on.
	if _, err := a.events.PublishEvents(a.ctx(), &treatyv1.PublishEventsRequest{}); err == nil {
		t.Error("an event was published by somebody who may not")
	}
	if err := a.append([]*journal.Event{{
		Source: "s", ID: "1", Type: "acme.identity.v1.PassportInspected", Subject: "x", Data: []byte{},
	}}); err != nil {
		t.Fatal(err)
	}
	a.engine.changed()
	if _, err := events.Recv(); err != nil {
		t.Fatalf("a stream that is still allowed: %v", err)
	}
	rules.change(nothing)
	if _, err := events.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("stream of events: %v, want a refusal", err)
	}
}

// expiringTokens is a verifier whose tokens are valid until they expire.
type expiringTokens struct{ expired atomic.Bool }

func (e *expiringTokens) Verify(context.Context, string) (access.Principal, error) {
	if e.expired.Load() {
		return access.Principal{}, errors.New("it has expired")
	}
	return access.Principal{Kind: access.JWT, Issuer: "https://id.example", Name: "ada"}, nil
}

// TestTokenExpires lets a token expire while calls are open, with rules and without.
func TestTokenExpires(t *testing.T) {
	for name, rules := range map[string]access.Authorizer{"rules": newAuthorizer(everything), "no rules": nil} {
		t.Run(name, func(t *testing.T) {
			tokens := new(expiringTokens)
			a := newSecureTestServer(t, security{authorizer: rules, tokens: tokens})
			a.engine.get = func(id string) (*treatyv1.Saga, error) {
				return &treatyv1.Saga{Name: "sagas/" + id, Definition: changeAddress}, nil
			}
			ctx := metadata.AppendToOutgoingContext(a.ctx(), "authorization", "Bearer x")
			watch, err := a.sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: "sagas/a1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}
			events, err := a.events.StreamEvents(ctx, &treatyv1.StreamEventsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := events.Header(); err != nil {
				t.Fatal(err)
			}
			tokens.expired.Store(true)
			_, watchErr := watch.Recv()
			_, eventsErr := events.Recv()
			for call, err := range map[string]error{"watch": watchErr, "events": eventsErr} {
				if got := failureOf(t, err); got.reason != treatyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID {
					t.Errorf("%s: %v, want the refusal of the token", call, err)
				}
			}
		})
	}
}
