//go:build proof

package proof

import (
	"context"
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

// call does something as a caller with a trace, and returns the trace with at least so many spans.
func (c *traced) call(t *testing.T, spans int, do func(ctx context.Context)) *jaegertest.Trace {
	t.Helper()
	ctx, span := c.tracer.Start(t.Context(), caller)
	do(ctx)
	span.End()
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.jaeger.Trace(t, span.SpanContext().TraceID().String(), spans)
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
		// Root, call, anchor and end; three attempts, each with its participant's span.
		got := acme.call(t, 10, func(ctx context.Context) {
			_, err := customerv1.NewCustomerSagasClient(acme.Conn(company.Orchestrator)).ChangeAddress(ctx, &customerv1.ChangeAddressSagaRequest{
				RequestId: "move", Customer: created.GetCustomer(), Address: &customerv1.Address{Lines: []string{"P.O. Box 7"}, City: "Delft", Country: "NL"},
			})
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got %v, want the card service's refusal", err)
			}
		})
		wholeTrace(t, got)
		between(t, got, changeAddress, map[string]string{
			"acme.customer.v1.CustomerService/ChangeAddress":  "customer",
			"acme.card.v1.CardService/ChangePostalAddress":    "card",
			"acme.customer.v1.CustomerService/RestoreAddress": "customer",
		})
		undone(t, got, "acme.customer.v1.CustomerService/ChangeAddress", "acme.customer.v1.CustomerService/RestoreAddress")
		if n := len(got.Named("saga compensated")); n != 1 {
			t.Errorf("%d spans tell of the saga's end, want 1", n)
		}
	})

	t.Run("over a crash", func(t *testing.T) {
		request := &cardv1.IssueCardSagaRequest{
			RequestId: "apply", Product: "classic", LimitCents: 1_000_00, Channel: "proof",
			Person: &cardv1.Person{DisplayName: "Grace", Email: "grace@example.com", PassportNumber: "GH190612", NationalId: "grace-1906", YearlyIncomeCents: 60_000_00},
			Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
		}
		// Root, two calls, anchor and end; six attempts with their participants' spans, one of them twice.
		got := acme.call(t, 18, func(ctx context.Context) {
			client := cardv1.NewCardSagasClient(acme.Conn(company.Orchestrator))
			first := make(chan error, 1)
			go func() {
				_, err := client.IssueCard(ctx, request)
				first <- err
			}()
			underWay(t, acme.Company, "acme.identity.v1.IdentityService/RegisterApplicant")
			if err := acme.Process(company.Orchestrator).Kill(); err != nil {
				t.Error(err)
			}
			if err := <-first; status.Code(err) != codes.Unavailable {
				t.Errorf("the call that the crash cut off: %v, want UNAVAILABLE", err)
			}
			if err := acme.Process(company.Orchestrator).Start(); err != nil {
				t.Error(err)
			}
			if _, err := client.IssueCard(ctx, request, grpc.WaitForReady(true)); err != nil {
				t.Errorf("the call after the crash: %v", err)
			}
		})
		wholeTrace(t, got)
		between(t, got, issueCard, map[string]string{
			"acme.customer.v1.CustomerService/CreateCustomer":      "customer",
			"acme.identity.v1.IdentityService/RegisterApplicant":   "identity",
			"acme.credit.v1.CreditService/GetLastCheck":            "credit",
			"acme.credit.v1.CreditService/CheckCredit":             "credit",
			"acme.card.v1.CardService/IssueCard":                   "card",
			"acme.notification.v1.NotificationService/SendWelcome": "notification",
		})
		if n := len(got.Named("saga succeeded")); n != 1 {
			t.Errorf("%d spans tell of the saga's end, want 1", n)
		}
	})
}

// wholeTrace: one root, the caller's, and no span without its parent.
func wholeTrace(t *testing.T, got *jaegertest.Trace) {
	t.Helper()
	if roots := got.Roots(); len(roots) != 1 || roots[0].Name != caller {
		t.Errorf("the roots are %v, want the caller alone", roots)
	}
	for _, orphan := range got.Orphans() {
		t.Errorf("the span %s of %s lacks its parent", orphan.Name, orphan.Service)
	}
	for _, span := range got.Spans {
		for _, warning := range span.Warnings {
			if strings.Contains(warning, "clock skew") {
				continue // what the process that was killed asked for began before the attempt that was made again
			}
			if strings.Contains(warning, "Negative duration") {
				continue // an anchor takes no time, which Jaeger calls negative
			}
			t.Errorf("Jaeger warns of the span %s of %s: %s", span.Name, span.Service, warning)
		}
	}
	if t.Failed() {
		t.Log(drawn(got))
	}
}

// between: the saga's anchor hangs from the caller's call, each command's attempt from the anchor, and the participant's work from
// the attempt.
func between(t *testing.T, got *jaegertest.Trace, definition string, commands map[string]string) {
	t.Helper()
	var anchor jaegertest.Span
	for _, span := range got.Named(definition) {
		if span.Service == "treaty-orchestrator" {
			anchor = span
		}
	}
	parent := slices.IndexFunc(got.Spans, func(s jaegertest.Span) bool { return s.ID == anchor.Parent })
	if anchor.ID == "" || parent < 0 || got.Spans[parent].Service != "caller" {
		t.Fatalf("the saga's anchor doesn't hang from the caller's call:\n%s", drawn(got))
	}
	for method, participant := range commands {
		var attempts int
		for _, attempt := range got.Named(method) {
			if attempt.Service != "treaty-orchestrator" {
				continue
			}
			attempts++
			if attempt.Parent != anchor.ID {
				t.Errorf("the attempt of %s doesn't hang from the anchor", method)
			}
			if !slices.ContainsFunc(got.Spans, func(s jaegertest.Span) bool { return s.Parent == attempt.ID && s.Service == participant }) {
				t.Errorf("nothing of %s hangs from the attempt of %s", participant, method)
			}
		}
		if attempts == 0 {
			t.Errorf("there is no attempt of %s", method)
		}
	}
	if t.Failed() {
		t.Log(drawn(got))
	}
}

// undone: the compensation's attempt links to the action's.
func undone(t *testing.T, got *jaegertest.Trace, action, compensation string) {
	t.Helper()
	var of, by []jaegertest.Span
	for _, span := range got.Spans {
		switch {
		case span.Service != "treaty-orchestrator":
		case span.Name == action:
			of = append(of, span)
		case span.Name == compensation:
			by = append(by, span)
		}
	}
	if len(of) == 0 || len(by) == 0 || !slices.Contains(by[0].Links, of[len(of)-1].ID) {
		t.Errorf("%s doesn't link to %s, which it undoes:\n%s", compensation, action, drawn(got))
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
