package orchestrator_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// The tests in this file attack an orchestrator that other machines can reach over mutual TLS, with nothing but the
// certificate of some other service of the same authority. Nothing says who may do what: access is open.

// exposed returns a system with mutual TLS that other machines can reach, and a function that connects to it as a
// service.
func exposed(
	t *testing.T, register func(saga.Registrar), options ...orchestrator.Option,
) (w *system, as func(name string) *grpc.ClientConn) {
	t.Helper()
	w, dial := securedAt(t, "0.0.0.0:0", register, append(options, orchestrator.WithOpenAccess())...)
	return w, func(name string) *grpc.ClientConn {
		id := &url.URL{Scheme: "spiffe", Host: "acme.example", Path: "/" + name}
		return dial(&x509.Certificate{URIs: []*url.URL{id}})
	}
}

// startInspection starts a saga that waits for an inspection, as the orders service, and returns its name once the
// inspection was accepted.
func startInspection(t *testing.T, w *system, as func(string) *grpc.ClientConn) (name string) {
	t.Helper()
	client := treatyv1.NewSagaServiceClient(as("orders"))
	request, err := anypb.New(move("one", "Main Street 1"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := client.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	until(w.ctx(), t, client, created.GetName(), func(got *treatyv1.Saga) bool {
		return len(got.GetSteps()) == 1 && got.GetSteps()[0].GetAttempts().GetAccepted()
	})
	return created.GetName()
}

// inspected returns the completion of an inspection.
func inspected(t *testing.T, name string) *treatyv1.CompleteStepRequest {
	t.Helper()
	reply, err := anypb.New(&identityv1.PassportInspected{Inspection: "inspections/1"})
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.CompleteStepRequest{
		Name: name + "/steps/1", Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
		How: &treatyv1.CompleteStepRequest_Reply{Reply: reply},
	}
}

// TestStrangersCompleteNothing completes a command as a stranger, as its participant, and as a person.
func TestStrangersCompleteNothing(t *testing.T) {
	for name, test := range map[string]struct {
		options []orchestrator.Option
		allowed string // who completes it in the end, if anybody can
	}{
		"the participant is known": {
			[]orchestrator.Option{orchestrator.WithParticipantIdentity(identityService, identitySPIFFEID)}, "identity",
		},
		"nobody is known": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, as := exposed(t, registerInspection, test.options...)
			saga := startInspection(t, w, as)
			stranger := treatyv1.NewSagaServiceClient(as("stranger"))
			byPerson := inspected(t, saga)
			byPerson.Decision = &treatyv1.Decision{Actor: "ada", Reason: "the clerk said so"}
			_, complete := stranger.CompleteStep(w.ctx(), inspected(t, saga))
			_, decide := stranger.CompleteStep(w.ctx(), byPerson)
			_, heartbeat := stranger.HeartbeatStep(w.ctx(), &treatyv1.HeartbeatStepRequest{
				Name: saga + "/steps/1", Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
			})
			for what, err := range map[string]error{
				"completion": complete, "decision": decide, "heartbeat": heartbeat,
			} {
				if reason, _ := info(err); status.Code(err) != codes.PermissionDenied ||
					reason != treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PARTICIPANT {
					t.Errorf("%s: %v", what, err)
				}
			}
			got, err := stranger.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: saga})
			if err != nil || got.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING {
				t.Errorf("the saga is %v, %v", got.GetState(), err)
			}
			if test.allowed == "" {
				return
			}
			if _, err := treatyv1.NewSagaServiceClient(as(test.allowed)).CompleteStep(w.ctx(),
				inspected(t, saga)); err != nil {
				t.Errorf("the participant: %v", err)
			}
		})
	}
}

// registerVerification registers a saga that other orchestrators may have as a child, and that succeeds at once.
func registerVerification(r saga.Registrar) {
	saga.Register(r, identityv1.IdentitySagas_VerifyApplicant_FullMethodName,
		func(saga.Context, *identityv1.VerifyApplicantRequest) (*identityv1.ApplicantConfirmed, error) {
			return &identityv1.ApplicantConfirmed{Applicant: "applicants/1"}, nil
		})
}

// TestStrangersUndoNoChild sends the two headers that a parent's orchestrator would send.
func TestStrangersUndoNoChild(t *testing.T) {
	for name, test := range map[string]struct {
		options []orchestrator.Option
		parent  bool // some orchestrator may have children here
	}{
		"the parent is known": {
			[]orchestrator.Option{orchestrator.WithParentIdentity("spiffe://acme.example/sagas")}, true,
		},
		"nobody is known": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, connect := exposed(t, registerVerification, test.options...)
			request := &identityv1.VerifyApplicantRequest{}
			send := func(as, step, method, direction string, request, reply any) error {
				ctx := metadata.AppendToOutgoingContext(w.ctx(), wire.CommandIDKey, step, wire.DirectionKey, direction)
				return connect(as).Invoke(ctx, method, request, reply)
			}
			start := func(as, step string) error {
				return send(as, step, identityv1.IdentitySagas_VerifyApplicant_FullMethodName, wire.Action, request,
					new(identityv1.ApplicantConfirmed))
			}
			undo := func(as, step string) error {
				return send(as, step, identityv1.IdentitySagas_UndoVerifyApplicant_FullMethodName, wire.Compensation,
					&identityv1.UndoVerifyApplicantRequest{Action: request}, new(identityv1.VerifyApplicantUndone))
			}
			const before, after = "sagas/parent/steps/1", "sagas/parent/steps/2"
			refused := map[string]error{"an undo before the start": undo("stranger", before)}
			if test.parent {
				for _, step := range []string{before, after} {
					if err := start("sagas", step); err != nil {
						t.Fatalf("the parent starts %s: %v", step, err)
					}
				}
			}
			refused["an undo after the start"] = undo("stranger", after)
			refused["a start"] = start("stranger", "sagas/parent/steps/3")
			for what, err := range refused {
				if reason, _ := info(err); status.Code(err) != codes.Unauthenticated ||
					reason != treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED {
					t.Errorf("%s: %v", what, err)
				}
			}
			client := treatyv1.NewSagaServiceClient(connect("stranger"))
			list, err := client.ListSagas(w.ctx(), new(treatyv1.ListSagasRequest))
			if want := map[bool]int{true: 2}[test.parent]; err != nil || len(list.GetSagas()) != want {
				t.Errorf("there are %d sagas, %v; want %d", len(list.GetSagas()), err, want)
			}
			for _, saga := range list.GetSagas() {
				if saga.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
					t.Errorf("a child is %v", saga.GetState())
				}
			}
		})
	}
}

// TestStrangersTakeNoConsumer acknowledges another consumer's events, and takes over its stream.
func TestStrangersTakeNoConsumer(t *testing.T) {
	w, as := exposed(t, registerInspection)
	owner, stranger := treatyv1.NewEventServiceClient(as("orders")), treatyv1.NewEventServiceClient(as("stranger"))
	stream, err := owner.StreamEvents(w.ctx(), &treatyv1.StreamEventsRequest{Consumer: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	publish(w.ctx(), t, owner, "1")
	_, acknowledge := stranger.AcknowledgeEvents(w.ctx(), &treatyv1.AcknowledgeEventsRequest{
		Consumer: "orders", Position: 1,
	})
	taken, err := stranger.StreamEvents(w.ctx(), &treatyv1.StreamEventsRequest{Consumer: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	_, take := taken.Recv()
	for what, err := range map[string]error{"acknowledge": acknowledge, "take over": take} {
		if reason, _ := info(err); status.Code(err) != codes.PermissionDenied ||
			reason != treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED {
			t.Errorf("%s: %v", what, err)
		}
	}
	got, err := stream.Recv()
	if err != nil || got.GetEvent().GetPosition() != 1 {
		t.Errorf("the owner receives %v, %v", got, err)
	}
	if _, err := owner.AcknowledgeEvents(w.ctx(), &treatyv1.AcknowledgeEventsRequest{
		Consumer: "orders", Position: 1,
	}); err != nil {
		t.Errorf("the owner acknowledges: %v", err)
	}
}

// TestAuditsAttacks reads the audit log of what a stranger tried, and of what its rightful caller did.
func TestAuditsAttacks(t *testing.T) {
	log := new(sharedLog)
	w, as := exposed(t, registerInspection, orchestrator.WithAuditLogger(slog.New(slog.NewJSONHandler(log, nil))),
		orchestrator.WithParticipantIdentity(identityService, identitySPIFFEID))
	saga := startInspection(t, w, as)
	if _, err := treatyv1.NewSagaServiceClient(as("stranger")).CompleteStep(w.ctx(), inspected(t, saga)); err == nil {
		t.Fatal("a stranger completes a step")
	}
	if _, err := treatyv1.NewSagaServiceClient(as("identity")).CompleteStep(w.ctx(), inspected(t, saga)); err != nil {
		t.Fatal(err)
	}
	plaintext := testkit.Dial(t, strings.Replace(w.ready.Address, "[::]", "127.0.0.1", 1),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	client := treatyv1.NewSagaServiceClient(plaintext)
	if _, err := client.ListSagas(w.ctx(), new(treatyv1.ListSagasRequest)); err == nil {
		t.Fatal("a caller over plaintext is answered")
	}
	for ctx := w.ctx(); !strings.Contains(log.String(), "handshake refused"); {
		select { // the caller may learn of it first
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the handshake isn't in the audit log:\n%s", log.String())
		}
	}
	for _, want := range []string{
		`"principal":"spiffe://acme.example/orders","action":"start","definition":"` + changeAddress +
			`","decision":"allowed"`,
		`"principal":"spiffe://acme.example/stranger","action":"complete","definition":"` + changeAddress +
			`","saga":"` + saga + `","method":"acme.identity.v1.IdentityService/InspectPassport","reason":"only the ` +
			`step's participant`,
		`"principal":"spiffe://acme.example/identity","action":"complete","definition":"` + changeAddress +
			`","saga":"` + saga + `","method":"acme.identity.v1.IdentityService/InspectPassport","decision":"allowed"`,
		`"msg":"handshake refused","from":"127.0.0.1:`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the audit log lacks %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "inspections/1") || strings.Contains(log.String(), `"action":"read"`) {
		t.Errorf("the audit log has payloads or reads:\n%s", log.String())
	}
}

// publish publishes a verification under an id, and fails the test if it can't.
func publish(ctx context.Context, t *testing.T, client treatyv1.EventServiceClient, id string) {
	t.Helper()
	if _, err := client.PublishEvents(ctx, verification(t, id)); err != nil {
		t.Fatal(err)
	}
}

func verification(t *testing.T, id string) *treatyv1.PublishEventsRequest {
	t.Helper()
	data, err := anypb.New(&identityv1.ApplicantVerified{Applicant: "applicants/1"})
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{{Id: id, Source: "identity", Data: data}}}
}

// TestStrangersUseUpNoEventID publishes an event before its real publisher does, with the same source, id and content.
func TestStrangersUseUpNoEventID(t *testing.T) {
	w, as := exposed(t, registerInspection)
	publish(w.ctx(), t, treatyv1.NewEventServiceClient(as("stranger")), "1")
	identity := treatyv1.NewEventServiceClient(as("identity"))
	_, err := identity.PublishEvents(w.ctx(), verification(t, "1"))
	if reason, _ := info(err); status.Code(err) != codes.AlreadyExists ||
		reason != treatyv1.ErrorReason_ERROR_REASON_OTHER_PUBLISHER {
		t.Errorf("the real publisher is told %v: it must not believe that its event was published", err)
	}
	publish(w.ctx(), t, identity, "2")
	publish(w.ctx(), t, identity, "2") // its own event again
}

// ownSagas lets everybody start sagas, and only some read them.
type ownSagas struct{ readers []string }

func (o ownSagas) Authorize(_ context.Context, request access.Request) error {
	if request.Action == access.Start || slices.Contains(o.readers, request.Principal.String()) {
		return nil
	}
	return errors.New("only sagas of one's own may be read")
}

func (ownSagas) Changed() <-chan struct{} { return nil }

// TestStrangersAttachOnlyToWhatTheyMayRead starts a saga with a request id that another principal has used.
func TestStrangersAttachOnlyToWhatTheyMayRead(t *testing.T) {
	w, dial := securedAt(t, "0.0.0.0:0", registerVerification, orchestrator.WithAuthorizer(
		ownSagas{readers: []string{"spiffe://acme.example/support"}}))
	start := func(name string) error {
		id := &url.URL{Scheme: "spiffe", Host: "acme.example", Path: "/" + name}
		client := identityv1.NewIdentitySagasClient(dial(&x509.Certificate{URIs: []*url.URL{id}}))
		_, err := client.VerifyApplicant(w.ctx(), &identityv1.VerifyApplicantRequest{RequestId: "one"})
		return err
	}
	for _, name := range []string{"orders", "orders", "support"} {
		if err := start(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := start("stranger")
	if reason, _ := info(err); status.Code(err) != codes.PermissionDenied ||
		reason != treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED {
		t.Errorf("a stranger attaches to the saga of another principal: %v", err)
	}
}

// TestJournalNamesPrincipals starts, completes and decides as different principals, and reads who did.
func TestJournalNamesPrincipals(t *testing.T) {
	w, as := exposed(t, registerInspection, orchestrator.WithParticipantIdentity(identityService, identitySPIFFEID))
	saga := startInspection(t, w, as)
	if _, err := treatyv1.NewSagaServiceClient(as("identity")).CompleteStep(w.ctx(), inspected(t, saga)); err != nil {
		t.Fatal(err)
	}
	got, err := treatyv1.NewSagaServiceClient(as("orders")).GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: saga})
	if err != nil {
		t.Fatal(err)
	}
	if started, completed := got.GetPrincipal(), got.GetSteps()[0].GetPrincipal(); started !=
		"spiffe://acme.example/orders" || completed != identitySPIFFEID {
		t.Errorf("started by %q, completed by %q", started, completed)
	}
	records, err := treatyv1.NewSagaServiceClient(as("orders")).ListSagaRecords(w.ctx(),
		&treatyv1.ListSagaRecordsRequest{Parent: saga})
	if err != nil {
		t.Fatal(err)
	}
	if first := records.GetRecords()[0].GetRecord().GetSagaStarted(); first.GetPrincipal() != got.GetPrincipal() {
		t.Errorf("the journal says that %q started the saga", first.GetPrincipal())
	}
	events := treatyv1.NewEventServiceClient(as("identity"))
	publish(w.ctx(), t, events, "1")
	stream, err := events.StreamEvents(w.ctx(), &treatyv1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if event, err := stream.Recv(); err != nil || event.GetEvent().GetPrincipal() != identitySPIFFEID {
		t.Errorf("the event is %v, %v", event, err)
	}
	other := startCancelled(t, w, as)
	if decision := other.GetPrincipal(); decision != "spiffe://acme.example/orders" {
		t.Errorf("%q has cancelled the saga", decision)
	}
}

// startCancelled starts a saga and cancels it, as the orders service in the name of somebody else, and returns the
// decision in its journal.
func startCancelled(t *testing.T, w *system, as func(string) *grpc.ClientConn) *treatyv1.Decision {
	t.Helper()
	client := treatyv1.NewSagaServiceClient(as("orders"))
	request, err := anypb.New(move("two", "Main Street 1"))
	if err != nil {
		t.Fatal(err)
	}
	saga, err := client.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CancelSaga(w.ctx(), &treatyv1.CancelSagaRequest{
		Name: saga.GetName(), Decision: &treatyv1.Decision{Actor: "the boss", Reason: "so", Principal: "made up"},
	}); err != nil {
		t.Fatal(err)
	}
	records, err := client.ListSagaRecords(w.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: saga.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records.GetRecords() {
		if decided := record.GetRecord().GetCompensationDecided(); decided != nil {
			return decided.GetDecision()
		}
	}
	t.Fatal("the journal has no decision")
	return nil
}
