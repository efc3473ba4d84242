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

// traced is a company whose processes and caller send their spans to a Jaeger.
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
		Dir: t.TempDir(), RegisterLatency: 500 * time.Millisecond,
		DialOptions: []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
			// The test's own calls don't belong to the trace.
			otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
				return strings.HasPrefix(info.FullMethodName,
					"/acme.")
			}),
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

// caller is the name of the root of each trace.
const caller = "the caller's own work"

// wanted describes the trace of a saga.
type wanted struct {
	definition string            // of the saga
	commands   map[string]string // the participant that serves each called method
	undone     map[string]string // the compensation of each action
	end        string            // the name of the span that covers the saga
}

// exportTime is how long spans may take to arrive.
const exportTime = 20 * time.Second

// shows calls do as a traced caller, waits for the trace, and returns it. It fails the test if the trace has faults.
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

// faults returns what is wrong with a trace. It must have no holes, the saga's anchor below the caller's call, a step
// of each command below the anchor, the participant's work below each step, a link from each compensation to its
// action, and one span that covers the saga. The span of an attempt may have died with the process.
func (w wanted) faults(got *jaegertest.Trace) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = holes(got)
	if roots := got.Roots(); len(roots) != 1 || roots[0].Name != caller {
		add("the trace has %d roots, want only the caller's", len(roots))
	}
	anchors := own(got, w.definition)
	if len(anchors) != 1 || !isBelowCaller(got, anchors[0]) {
		add("the trace has %d anchors of the saga, want one below the caller's call", len(anchors))
		return faults
	}
	faults = append(faults, missing(got, anchors[0], w.commands)...)
	for action, compensation := range w.undone {
		of, by := steps(got, action), steps(got, compensation)
		if len(of) == 0 || len(by) == 0 || !slices.Contains(by[0].Links, of[len(of)-1].ID) {
			add("%s has no link to %s, which it compensates", compensation, action)
		}
	}
	if n := len(own(got, w.end)); n != 1 {
		add("%d spans are named %q, want one", n, w.end)
	}
	return faults
}

// holes returns where a trace is incomplete: a span without its parent, or with a warning by Jaeger.
func holes(got *jaegertest.Trace) (faults []string) {
	for _, orphan := range got.Orphans() {
		faults = append(faults, fmt.Sprintf("the span %s of %s lacks its parent", orphan.Name, orphan.Service))
	}
	for _, span := range got.Spans {
		for _, warning := range span.Warnings {
			faults = append(faults, fmt.Sprintf("Jaeger has a warning for the span %s of %s: %s", span.Name,
				span.Service, warning))
		}
	}
	return faults
}

// steps returns the spans of a method's steps.
func steps(got *jaegertest.Trace, method string) []jaegertest.Span {
	return append(own(got, "action "+method), own(got, "compensation "+method)...)
}

// missing returns the commands of a saga that have no step below its anchor, or one without the participant's work.
func missing(got *jaegertest.Trace, anchor jaegertest.Span, commands map[string]string) (faults []string) {
	for method, participant := range commands {
		found := slices.DeleteFunc(steps(got, method), func(s jaegertest.Span) bool { return s.Parent != anchor.ID })
		if len(found) == 0 {
			faults = append(faults, fmt.Sprintf("no step of %s is below the anchor of %s", method, anchor.Name))
		}
		for _, step := range found {
			if !reaches(got, step, participant) {
				faults = append(faults, fmt.Sprintf("no span of %s is below a step of %s", participant, method))
			}
		}
	}
	return faults
}

// isBelowCaller reports whether the parent of a span is the caller's.
func isBelowCaller(got *jaegertest.Trace, span jaegertest.Span) bool {
	return slices.ContainsFunc(got.Spans,
		func(s jaegertest.Span) bool { return s.ID == span.Parent && s.Service == "caller" })
}

// reaches reports whether a step has a span of a service below it.
func reaches(got *jaegertest.Trace, step jaegertest.Span, service string) bool {
	return slices.ContainsFunc(got.Spans,
		func(s jaegertest.Span) bool { return s.Parent == step.ID && s.Service == service })
}

// orchestratorService is the service name of the orchestrator's spans.
const orchestratorService = "treaty-orchestrator"

// own returns the orchestrator's spans with a name.
func own(got *jaegertest.Trace, name string) []jaegertest.Span {
	return slices.DeleteFunc(got.Named(name),
		func(s jaegertest.Span) bool { return s.Service != orchestratorService })
}

// TestTraces checks the traces of two sagas in Jaeger: one that is compensated, and one that continues after a crash.
func TestTraces(t *testing.T) {
	acme := openTraced(t)

	t.Run("compensated", func(t *testing.T) {
		service := customerv1.NewCustomerServiceClient(acme.Conn(company.Customer))
		created, err := service.CreateCustomer(t.Context(), &customerv1.CreateCustomerRequest{
			DisplayName: "Ada", Email: "ada@example.com",
			Address: &customerv1.Address{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
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
			undone: map[string]string{
				"acme.customer.v1.CustomerService/ChangeAddress": "acme.customer.v1.CustomerService/RestoreAddress",
			},
			end: "saga compensated",
		}, func(ctx context.Context) {
			sagas := customerv1.NewCustomerSagasClient(acme.Conn(company.Orchestrator))
			_, err := sagas.ChangeAddress(ctx, &customerv1.ChangeAddressSagaRequest{
				RequestId: "move", Customer: created.GetCustomer(),
				Address: &customerv1.Address{Lines: []string{"P.O. Box 7"}, City: "Delft", Country: "NL"},
			})
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got %v, want the card service's refusal", err)
			}
		})
	})

	t.Run("across a crash", func(t *testing.T) {
		acme.shows(t, wanted{
			definition: issueCard,
			commands: map[string]string{
				"acme.customer.v1.CustomerService/CreateCustomer":      "customer",
				"acme.identity.v1.IdentityService/RegisterApplicant":   "identity",
				"acme.credit.v1.CreditService/GetLastCheck":            "credit",
				"acme.credit.v1.CreditService/CheckCredit":             "credit",
				"acme.card.v1.CardService/IssueCard":                   "card",
				"acme.notification.v1.NotificationService/SendWelcome": "notification",
			},
			end: "saga succeeded",
		}, func(ctx context.Context) { acme.issueCardOverCrash(ctx, t) })
	})
}

// issueCardOverCrash calls IssueCard, kills the orchestrator while the identity service works, restarts it, and repeats
// the call.
func (c *traced) issueCardOverCrash(ctx context.Context, t *testing.T) {
	t.Helper()
	request := &cardv1.IssueCardSagaRequest{
		RequestId: "apply", Product: "classic", LimitCents: 1_000_00, Channel: "proof",
		Person: &cardv1.Person{DisplayName: "Grace", Email: "grace@example.com", PassportNumber: "GH190612",
			NationalId: "grace-1906", YearlyIncomeCents: 60_000_00},
		Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
	}
	client := cardv1.NewCardSagasClient(c.Conn(company.Orchestrator))
	first := make(chan error, 1)
	go func() {
		_, err := client.IssueCard(ctx, request)
		first <- err
	}()
	awaitInFlight(t, c.Company, "acme.identity.v1.IdentityService/RegisterApplicant")
	if err := c.Process(company.Orchestrator).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-first; status.Code(err) != codes.Unavailable {
		t.Errorf("the call during the crash: %v, want UNAVAILABLE", err)
	}
	if err := c.Process(company.Orchestrator).Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.IssueCard(ctx, request, grpc.WaitForReady(true)); err != nil {
		t.Errorf("the call after the crash: %v", err)
	}
}

// drawn returns a trace as text, for failures.
func drawn(got *jaegertest.Trace) string {
	var b strings.Builder
	b.WriteString("the trace:\n")
	for _, s := range got.Spans {
		b.WriteString("  " + s.ID + " < " + s.Parent + "  " + s.Service + "  " + s.Name + "  " +
			strings.Join(s.Links, ",") + "\n")
	}
	return b.String()
}

// awaitInFlight waits until a command with this method is in flight.
func awaitInFlight(t *testing.T, acme *company.Company, method string) {
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
			t.Fatalf("no command %s was in flight in time", method)
		}
	}
}
