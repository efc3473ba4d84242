//go:build proof

package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/jaegertest"
	"github.com/treatyhq/treaty/services/demo/company"
)

// traced is a company whose processes, and whose caller, send their spans to a Jaeger.
type traced struct {
	*company.Company

	jaeger *jaegertest.Jaeger
	tracer trace.Tracer
	flush  func(context.Context) error
}

// openTraced starts a Jaeger and a company.
func openTraced(t *testing.T) *traced {
	t.Helper()
	jaeger := jaegertest.Start(t)
	for _, variable := range jaeger.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	exporter, err := autoexport.NewSpanExporter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "caller"))))
	acme, err := company.Open(t.Context(), company.Params{
		Dir: t.TempDir(), GoOnly: true, RegisterLatency: 500 * time.Millisecond,
		DialOptions: []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
			// What the test itself asks is not the caller's.
			otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return strings.HasPrefix(info.FullMethodName, "/acme.") }),
		))},
	})
	t.Cleanup(func() {
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, acme)
		}
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &traced{Company: acme, jaeger: jaeger, tracer: provider.Tracer("proof"), flush: provider.ForceFlush}
}

// caller is what the root of each trace is named.
const caller = "the caller's own work"

// wanted is what a trace must show.
type wanted struct {
	definition string            // of the saga
	commands   map[string]string // who serves each method that is called
	undone     map[string]string // by which compensation each action is undone
	end        string            // the name of the span that covers the saga
}

// exportTime is how long spans may take to arrive.
const exportTime = 20 * time.Second

// shows does something as a caller with a trace, fails the test unless that becomes what it must be, and returns it.
func (c *traced) shows(t *testing.T, want interface {
	faults(got *jaegertest.Trace) []string
}, do func(ctx context.Context)) *jaegertest.Trace {
	t.Helper()
	ctx, span := c.tracer.Start(t.Context(), caller)
	do(ctx)
	span.End()
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := time.NewTimer(exportTime)
	defer deadline.Stop()
	tick := time.NewTicker(10 * lookEvery)
	defer tick.Stop()
	for {
		got := c.jaeger.Trace(t, span.SpanContext().TraceID().String(), 1)
		faults := want.faults(got)
		if len(faults) == 0 {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			for _, fault := range faults {
				t.Error(fault)
			}
			t.Log(drawn(got))
			return got
		}
	}
}

// faults says what a trace lacks: one root, the caller's, no span without its parent, the anchor under the caller's call, each command's
// attempt under the anchor, the participant's work under the attempt, a link from each compensation to what it undoes, one end.
func (w wanted) faults(got *jaegertest.Trace) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = holes(got)
	anchors := own(got, w.definition)
	if len(anchors) != 1 || !slices.ContainsFunc(got.Spans, func(s jaegertest.Span) bool { return s.ID == anchors[0].Parent && s.Service == "caller" }) {
		add("it has %d anchors of the saga, want one that hangs from the caller's call", len(anchors))
		return faults
	}
	for method, participant := range w.commands {
		attempts := own(got, method)
		if len(attempts) == 0 {
			add("it has no attempt of %s", method)
		}
		for _, attempt := range attempts {
			if attempt.Parent != anchors[0].ID {
				add("an attempt of %s doesn't hang from the anchor", method)
			}
			if !reaches(got, attempt, participant) {
				add("nothing of %s hangs from an attempt of %s", participant, method)
			}
		}
	}
	for action, compensation := range w.undone {
		of, by := own(got, action), own(got, compensation)
		if len(of) == 0 || len(by) == 0 || !slices.Contains(by[0].Links, of[len(of)-1].ID) {
			add("%s doesn't link to %s, which it undoes", compensation, action)
		}
	}
	if n := len(own(got, w.end)); n != 1 {
		add("%d spans are named %q, want one", n, w.end)
	}
	return faults
}

// holes says where a trace isn't one: it has one root, the caller's, no span without its parent, and nothing that Jaeger warns of.
func holes(got *jaegertest.Trace) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if roots := got.Roots(); len(roots) != 1 || roots[0].Name != caller {
		add("it has %d roots, want the caller's alone", len(roots))
	}
	for _, orphan := range got.Orphans() {
		add("the span %s of %s lacks its parent", orphan.Name, orphan.Service)
	}
	for _, span := range got.Spans {
		for _, warning := range span.Warnings {
			// What a killed process had asked for began before the attempt that was made again; and an anchor takes no time.
			if !strings.Contains(warning, "clock skew") && !strings.Contains(warning, "Negative duration") {
				add("Jaeger warns of the span %s of %s: %s", span.Name, span.Service, warning)
			}
		}
	}
	return faults
}

// reaches says whether a participant's own work hangs from an attempt.
func reaches(got *jaegertest.Trace, attempt jaegertest.Span, participant string) bool {
	return slices.ContainsFunc(got.Spans, func(s jaegertest.Span) bool { return s.Parent == attempt.ID && s.Service == participant })
}

// own returns the orchestrator's own spans of a name.
func own(got *jaegertest.Trace, name string) []jaegertest.Span {
	return slices.DeleteFunc(got.Named(name), func(s jaegertest.Span) bool { return s.Service != "treaty-orchestrator" })
}

// TestTraces looks at the traces of two sagas in Jaeger: one that is compensated, and one that goes on after a crash.
func TestTraces(t *testing.T) {
	acme := openTraced(t)

	t.Run("compensated", func(t *testing.T) {
		created, err := customerv1.NewCustomerServiceClient(acme.Conn(company.Customer)).CreateCustomer(t.Context(), &customerv1.CreateCustomerRequest{
			DisplayName: "Ada", Email: "ada@example.com", Address: &customerv1.Address{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
		})
		if err != nil {
			t.Fatal(err)
		}
		acme.shows(t, wanted{
			definition: changeAddress,
			commands: map[string]string{
				"acme.customer.v1.CustomerService/ChangeAddress":  "customer",
				"acme.card.v1.CardService/ChangePostalAddress":    "card",
				"acme.customer.v1.CustomerService/RestoreAddress": "customer",
			},
			undone: map[string]string{"acme.customer.v1.CustomerService/ChangeAddress": "acme.customer.v1.CustomerService/RestoreAddress"},
			end:    "saga compensated",
		}, func(ctx context.Context) {
			_, err := customerv1.NewCustomerSagasClient(acme.Conn(company.Orchestrator)).ChangeAddress(ctx, &customerv1.ChangeAddressSagaRequest{
				RequestId: "move", Customer: created.GetCustomer(), Address: &customerv1.Address{Lines: []string{"P.O. Box 7"}, City: "Delft", Country: "NL"},
			})
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got %v, want the card service's refusal", err)
			}
		})
	})

	t.Run("over a crash", func(t *testing.T) {
		acme.shows(t, wanted{
			definition: issueCard,
			commands: map[string]string{
				"acme.customer.v1.CustomerService/CreateCustomer":      "customer",
				"acme.identity.v1.IdentityService/RegisterApplicant":   "identity",
				"acme.credit.v1.CreditService/CheckCredit":             "credit",
				"acme.card.v1.CardService/IssueCard":                   "card",
				"acme.notification.v1.NotificationService/SendWelcome": "notification",
			},
			end: "saga succeeded",
		}, func(ctx context.Context) { acme.issueCardOverCrash(ctx, t) })
	})
}

// issueCardOverCrash calls IssueCard, kills the orchestrator while the identity service is at work, starts it again, and calls again.
func (c *traced) issueCardOverCrash(ctx context.Context, t *testing.T) {
	t.Helper()
	request := &cardv1.IssueCardSagaRequest{
		RequestId: "apply", Product: "classic", LimitCents: 1_000_00, Channel: "proof",
		Person: &cardv1.Person{DisplayName: "Grace", Email: "grace@example.com", PassportNumber: "GH190612", NationalId: "grace-1906", YearlyIncomeCents: 60_000_00},
		Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
	}
	client := cardv1.NewCardSagasClient(c.Conn(company.Orchestrator))
	first := make(chan error, 1)
	go func() {
		_, err := client.IssueCard(ctx, request)
		first <- err
	}()
	underWay(t, c.Company, "acme.identity.v1.IdentityService/RegisterApplicant")
	if err := c.Process(company.Orchestrator).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-first; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that the crash cut off: %v, want UNAVAILABLE", err)
	}
	if err := c.Process(company.Orchestrator).Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.IssueCard(ctx, request, grpc.WaitForReady(true)); err != nil {
		t.Errorf("the call after the crash: %v", err)
	}
}

// drawn is a trace as text, for failures.
func drawn(got *jaegertest.Trace) string {
	var b strings.Builder
	b.WriteString("the trace:\n")
	for _, s := range got.Spans {
		b.WriteString("  " + s.ID + " < " + s.Parent + "  " + s.Service + "  " + s.Name + "  " + strings.Join(s.Links, ",") + "\n")
	}
	return b.String()
}

// underWay waits until a command of that method has been sent and not answered.
func underWay(t *testing.T, acme *company.Company, method string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		open, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 10, Filter: `state = "RUNNING"`})
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range open.GetSagas() {
			saga, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range saga.GetSteps() {
				if step.GetMethod() == method && step.GetEndTime() == nil && step.GetAttempts().GetCount() > 0 {
					return
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no command %s was under way in time", method)
		}
	}
}
