package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// fakeOrchestrator records the calls that it receives, with the time since it started. It fails while err is set.
type fakeOrchestrator struct {
	began time.Time

	picky string // the command whose completion it always rejects

	mu   sync.Mutex
	err  error
	told []string
}

func (o *fakeOrchestrator) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *fakeOrchestrator) heard() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.told...)
}

func (o *fakeOrchestrator) Invoke(_ context.Context, _ string, request, _ any, _ ...grpc.CallOption) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	said := "nothing"
	switch r := request.(type) {
	case *treatyv1.HeartbeatStepRequest:
		said = r.GetName() + " heartbeat"
	case *treatyv1.CompleteStepRequest:
		said = r.GetName() + " " + string(r.GetReply().MessageName().Name())
		for _, detail := range r.GetRefusal().GetDetails() {
			said += string(detail.MessageName().Name())
		}
		if r.GetRefusal() != nil {
			said += codes.Code(uint32(r.GetRefusal().GetCode())).String()
		}
	}
	said = fmt.Sprintf("%v %s", time.Since(o.began), strings.TrimPrefix(said, "sagas/s/steps/"))
	err := o.err
	if c, ok := request.(*treatyv1.CompleteStepRequest); ok && c.GetName() == o.picky {
		err = status.Error(codes.Unimplemented, "the reply's contract isn't linked")
	}
	if err != nil {
		said += ", rejected"
	}
	o.told = append(o.told, said)
	return err
}

func (o *fakeOrchestrator) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

// office is the identity service with a running inspector, and the applications of two people in its database.
type office struct {
	*service

	stop func()
}

// inspecting is how long an inspection takes in these tests.
const inspecting = 25 * time.Second

// openOffice opens the service. If it was open before, this is a restart.
func openOffice(t *testing.T, path string, o *fakeOrchestrator) *office {
	t.Helper()
	params := sqlitedb.Params{Path: path, Migrations: migrations}
	opened, err := sqlitedb.OpenStore(t.Context(), params, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &store{opened}
	inspector := newInspector(store, participant.NewCompleter(o), inspecting)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { inspector.run(ctx) })
	return &office{service: &service{store: store, inspector: inspector}, stop: func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}}
}

// apply adds an applicant to the database.
func (o *office) apply(t *testing.T, name, passport string) {
	t.Helper()
	applicant := &identityv1.Applicant{
		Name: name, Customer: "customers/" + passport, DisplayName: "Ada", PassportNumber: passport,
		RegisterReference: passport,
	}
	if _, err := inbox.Handle(t.Context(), o.store.Inbox, func(tx *inbox.Tx) (*identityv1.Applicant, error) {
		return applicant, o.store.add(t.Context(), tx, "", applicant)
	}); err != nil {
		t.Fatal(err)
	}
}

func commanded(t *testing.T, step string, direction participant.Direction) context.Context {
	t.Helper()
	return participant.NewContext(t.Context(), participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/" + step, Direction: direction, Attempt: 1, Epoch: 1,
	})
}

// ask requests an inspection and returns the answer. By then, the inspector has seen an accepted inspection, so the
// test's next action comes after that.
func (o *office) ask(t *testing.T, step, applicant string) string {
	t.Helper()
	defer synctest.Wait()
	reply, err := o.InspectPassport(commanded(t, step, participant.Action),
		&identityv1.InspectPassportRequest{Applicant: applicant})
	if wait, pending := participant.IsPending(err); pending {
		return "pending for " + wait.String()
	}
	if err != nil {
		return status.Code(err).String()
	}
	return "inspected " + reply.GetApplicant()
}

func (o *office) discard(t *testing.T, step string) {
	t.Helper()
	if _, err := o.DiscardInspection(commanded(t, step, participant.Compensation),
		&identityv1.DiscardInspectionRequest{}); err != nil {
		t.Error(err)
	}
}

// done returns the applicants whose inspections are completed.
func (o *office) done(t *testing.T) (applicants []string) {
	t.Helper()
	list, err := o.ListInspections(t.Context(), &identityv1.ListInspectionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list.GetInspections() {
		applicants = append(applicants, i.GetApplicant())
	}
	return applicants
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestInspections(t *testing.T) {
	const ada, forger, ask = "applicants/ada", "applicants/forger", "pending for 30s"
	over, away := status.Error(codes.FailedPrecondition, "the step is over"),
		status.Error(codes.Unavailable, "nobody there")
	later := func(d time.Duration) {
		<-time.After(d)
		synctest.Wait()
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, o *office, orchestrator *fakeOrchestrator, reopen func() *office)
		told []string
	}{
		{
			name: "a genuine passport",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				expect(t, "the first answer", ask, o.ask(t, "3", ada))
				expect(t, "the duplicate's answer", ask, o.ask(t, "3", ada))
				expect(t, "done at once", []string(nil), o.done(t))
				later(time.Minute)
				expect(t, "the completed inspections", []string{ada}, o.done(t))
				expect(t, "the late duplicate's answer", "inspected "+ada, o.ask(t, "3", ada))
				o.discard(t, "3")
				expect(t, "done after the undo", []string(nil), o.done(t))
			},
			told: []string{"10s 3 heartbeat", "20s 3 heartbeat", "25s 3 PassportInspected"},
		},
		{
			name: "a forged passport",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				expect(t, "the first answer", ask, o.ask(t, "3", forger))
				later(time.Minute)
				expect(t, "the late duplicate's answer", "FailedPrecondition", o.ask(t, "3", forger))
				expect(t, "done", []string(nil), o.done(t))
			},
			told: []string{"10s 3 heartbeat", "20s 3 heartbeat", "25s 3 PassportNotGenuineFailedPrecondition"},
		},
		{
			name: "across a restart",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, reopen func() *office) {
				o.ask(t, "3", ada)
				later(5 * time.Second)
				o.stop()
				later(5 * time.Minute)
				o = reopen()
				later(time.Second)
				expect(t, "done", []string{ada}, o.done(t))
			},
			told: []string{"5m5s 3 PassportInspected"},
		},
		{
			name: "across a restart, in progress before and after",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, reopen func() *office) {
				o.ask(t, "3", ada)
				later(5 * time.Second)
				o.stop()
				reopen()
				later(time.Minute)
			},
			told: []string{"15s 3 heartbeat", "25s 3 PassportInspected"},
		},
		{
			name: "compensated while it is in flight",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				o.ask(t, "3", ada)
				later(5 * time.Second)
				o.discard(t, "3")
				o.discard(t, "3")
				later(time.Minute)
				expect(t, "the late duplicate's answer", "FailedPrecondition", o.ask(t, "3", ada))
				expect(t, "done", []string(nil), o.done(t))
			},
		},
		{
			name: "compensated before it arrives",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				o.discard(t, "3")
				expect(t, "the late answer", "FailedPrecondition", o.ask(t, "3", ada))
			},
		},
		{
			name: "the orchestrator is away for a while",
			do: func(t *testing.T, o *office, orchestrator *fakeOrchestrator, _ func() *office) {
				orchestrator.fail(away)
				o.ask(t, "3", ada)
				later(27*time.Second + 500*time.Millisecond)
				orchestrator.fail(nil)
				later(time.Minute)
			},
			told: append(inVain("heartbeat", 10, 24), append(inVain("PassportInspected", 25, 27),
				"28s 3 PassportInspected")...),
		},
		{
			name: "the saga no longer waits",
			do: func(t *testing.T, o *office, orchestrator *fakeOrchestrator, _ func() *office) {
				orchestrator.fail(over)
				o.ask(t, "3", ada)
				later(time.Hour)
			},
			told: []string{"10s 3 heartbeat, rejected", "25s 3 PassportInspected, rejected"},
		},
		{
			name: "the applicant's data are deleted meanwhile",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				o.ask(t, "3", ada)
				got, err := o.DeleteUserData(commanded(t, "4", participant.Action),
					&privacyv1.DeleteUserDataRequest{Customer: "customers/NP12345"})
				want := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "inspections", Deleted: 1},
					{Kind: "applicants", Deleted: 1}}}
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || err != nil {
					t.Errorf("deleted, with the error %v (-want +got):\n%s", err, diff)
				}
				later(time.Hour)
				expect(t, "the late duplicate's answer", "NotFound", o.ask(t, "3", ada))
			},
			told: []string{"10s 3 NotFound"},
		},
		{
			name: "an applicant who doesn't exist",
			do: func(t *testing.T, o *office, _ *fakeOrchestrator, _ func() *office) {
				expect(t, "the answer", "NotFound", o.ask(t, "3", "applicants/none"))
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity.db")
			synctest.Test(t, func(t *testing.T) {
				orchestrator := &fakeOrchestrator{began: time.Now()}
				o := openOffice(t, path, orchestrator)
				o.apply(t, ada, "NP12345")
				o.apply(t, forger, "FF12345")
				test.do(t, o, orchestrator, func() *office {
					o = openOffice(t, path, orchestrator)
					return o
				})
				synctest.Wait()
				o.stop()
				expect(t, "the calls to the orchestrator", test.told, orchestrator.heard())
			})
		})
	}
}

// inVain are the calls, one each second, that the orchestrator rejects.
func inVain(what string, from, to int) (told []string) {
	for second := from; second <= to; second++ {
		told = append(told, fmt.Sprintf("%ds 3 %s, rejected", second, what))
	}
	return told
}

// TestOneCompletionHoldsUpNoOther checks that a completion that the orchestrator rejects delays neither the completions
// nor the heartbeats of other inspections.
func TestOneCompletionHoldsUpNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.db")
	synctest.Test(t, func(t *testing.T) {
		orchestrator := &fakeOrchestrator{began: time.Now(), picky: "sagas/s/steps/1"}
		o := openOffice(t, path, orchestrator)
		defer o.stop()
		for n, wait := range []time.Duration{time.Second, 12 * time.Second, time.Minute} {
			applicant := fmt.Sprintf("applicants/%d", n+1)
			o.apply(t, applicant, fmt.Sprintf("NP%05d", n+1))
			o.ask(t, strconv.Itoa(n+1), applicant)
			<-time.After(wait)
		}
		synctest.Wait()
		var others []string
		for _, said := range orchestrator.heard() {
			if !strings.Contains(said, "s 1 ") {
				others = append(others, said)
			}
		}
		expect(t, "the calls about the other inspections", []string{
			"11s 2 heartbeat", "21s 2 heartbeat", "23s 3 heartbeat", "26s 2 PassportInspected", "33s 3 heartbeat",
			"38s 3 PassportInspected",
		}, others)
	})
}

// TestInspectionForNobody checks that nothing is accepted outside of a saga.
func TestInspectionForNobody(t *testing.T) {
	c := start(t)
	registered, err := c.RegisterApplicant(t.Context(), ada())
	if err != nil {
		t.Fatal(err)
	}
	request := &identityv1.InspectPassportRequest{Applicant: registered.GetApplicant()}
	if _, err := c.InspectPassport(t.Context(), request); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("asked for by a person: %v, want FAILED_PRECONDITION", err)
	}
	if _, err := c.DiscardInspection(t.Context(),
		&identityv1.DiscardInspectionRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("discarded by a person: %v, want INVALID_ARGUMENT", err)
	}
}
