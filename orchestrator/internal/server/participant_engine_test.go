package server_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// parentScope is the scope of the orchestrator of parents, and parentEpoch its epoch.
const (
	parentScope = "parents/0"
	parentEpoch = 7
)

// parentStart is when the parent started.
var parentStart = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)

// askingAs is the context of a question that another orchestrator asks.
func askingAs(ctx context.Context, scope string, epoch uint64) context.Context {
	return metadata.AppendToOutgoingContext(ctx, wire.ScopeKey, scope, wire.EpochKey, strconv.FormatUint(epoch, 10))
}

// sentBy is the context of a command that another orchestrator sends.
func sentBy(ctx context.Context, direction, digest string) context.Context {
	return metadata.AppendToOutgoingContext(askingAs(asStep(ctx, direction), parentScope, parentEpoch),
		wire.StartKey, strconv.FormatInt(parentStart.UnixMicro(), 10), wire.RequestDigestKey, digest)
}

// relatives are a child's orchestrator and the calls of the parent's.
type relatives struct {
	*testServer

	identity *identityService
	request  *identityv1.VerifyApplicantRequest
	digest   string
}

func newRelatives(t *testing.T) *relatives {
	t.Helper()
	a, identity := newEngineServer(t)
	request := verification("order-1")
	return &relatives{a, identity, request, wire.RequestDigest(verifyApplicant, marshal(t, request))}
}

// start sends the command that starts the child, and returns the mark of the answer.
func (r *relatives) start(timeout time.Duration) (mark string, err error) {
	ctx, cancel := context.WithTimeout(sentBy(r.t.Context(), wire.Action, r.digest), timeout)
	defer cancel()
	var trailer metadata.MD
	_, err = identityv1.NewIdentitySagasClient(r.conn).VerifyApplicant(ctx, r.request, grpc.Trailer(&trailer))
	return strings.Join(trailer.Get(wire.AnswerKey), " "), err
}

// accept starts the child, which waits for an event.
func (r *relatives) accept() {
	r.t.Helper()
	if mark, err := r.start(time.Second); err != nil || mark != "" {
		r.t.Fatalf("a child that waits is answered with the mark %q, %v", mark, err)
	}
}

// succeed starts the child and lets it succeed.
func (r *relatives) succeed() {
	r.t.Helper()
	r.accept()
	r.publishAll(verified(r.t, "1", "applicants/1"))
	inspected := pack(r.t, &identityv1.PassportInspected{Inspection: "inspections/1"})
	if _, err := r.sagas.CompleteStep(r.ctx(), &treatyv1.CompleteStepRequest{
		Name: <-r.identity.accepted, Direction: action, How: replied(inspected),
	}); err != nil {
		r.t.Fatal(err)
	}
	if mark, err := r.start(20 * time.Second); err != nil || mark != wire.AnswerDone {
		r.t.Fatalf("a child that succeeded is answered with the mark %q, %v", mark, err)
	}
}

// undo sends the compensation until it is done.
func (r *relatives) undo(digest string) error {
	client, ctx := identityv1.NewIdentitySagasClient(r.conn), sentBy(r.ctx(), wire.Compensation, digest)
	for {
		var trailer metadata.MD
		_, err := client.UndoVerifyApplicant(ctx,
			&identityv1.UndoVerifyApplicantRequest{Action: r.request}, grpc.Trailer(&trailer))
		if status.Code(err) == codes.Unavailable {
			continue // a parent sends the command again
		}
		if mark := trailer.Get(wire.AnswerKey); err == nil && !slices.Equal(mark, []string{wire.AnswerDone}) {
			return fmt.Errorf("a compensation is answered with the mark %q", mark)
		}
		return err
	}
}

func (r *relatives) mustUndo() {
	r.t.Helper()
	if err := r.undo(r.digest); err != nil {
		r.t.Fatal(err)
	}
}

// cancel cancels the child, as a person does.
func (r *relatives) cancel() {
	r.t.Helper()
	name := "sagas/" + engine.ChildID(verifyApplicant, parentStep)
	if _, err := r.sagas.CancelSaga(r.ctx(), &treatyv1.CancelSagaRequest{Name: name}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.sagas.WaitSaga(r.ctx(), &treatyv1.WaitSagaRequest{Name: name}); err != nil {
		r.t.Fatal(err)
	}
}

// list returns what the child's orchestrator lists, as text.
func (r *relatives) list(request *treatyv1.ListCommandsRequest) []string {
	r.t.Helper()
	client := treatyv1.NewParticipantServiceClient(r.conn)
	listed := []string{}
	for {
		page, err := client.ListCommands(askingAs(r.ctx(), parentScope, parentEpoch), request)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, command := range page.GetCommands() {
			if command.GetCommandId() != parentStep || command.GetRequestDigest() != r.digest ||
				!command.GetSagaStart().AsTime().Equal(parentStart) ||
				time.Since(command.GetUpdateTime().AsTime()) > time.Minute {
				r.t.Errorf("listed %v", command)
			}
			_, method, _ := strings.Cut(command.GetMethod(), "/")
			listed = append(listed, method+" "+strings.TrimPrefix(command.GetVerdict().String(), "COMMAND_VERDICT_"))
		}
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			return listed
		}
	}
}

func (r *relatives) closeCommand(digest string) (*treatyv1.CloseCommandResponse, error) {
	return treatyv1.NewParticipantServiceClient(r.conn).CloseCommand(askingAs(r.ctx(), parentScope, parentEpoch),
		&treatyv1.CloseCommandRequest{
			CommandId: parentStep, Method: verifyApplicant, RequestDigest: digest,
			SagaStart: timestamppb.New(parentStart),
		})
}

// What a parent's orchestrator can learn about a child, whatever became of it.
func TestParentAsksAboutItsChild(t *testing.T) {
	executed := &treatyv1.CloseCommandResponse_Executed_{}
	accepted := &treatyv1.CloseCommandResponse_Accepted_{}
	refused := &treatyv1.CloseCommandResponse_Refused_{}
	undone := &treatyv1.CloseCommandResponse_Compensated_{}
	closed := &treatyv1.CloseCommandResponse_Closed_{}
	for name, test := range map[string]struct {
		before func(r *relatives)
		listed []string
		closed any
		again  treatyv1.ErrorReason // of the next attempt to start the child; none: it is accepted or done
	}{
		"never started": {func(*relatives) {}, []string{}, closed,
			treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT},
		"waits":     {(*relatives).accept, []string{"VerifyApplicant ACCEPTED"}, accepted, 0},
		"succeeded": {(*relatives).succeed, []string{"VerifyApplicant EXECUTED"}, executed, 0},
		"cancelled": {func(r *relatives) { r.accept(); r.cancel() }, []string{"VerifyApplicant REFUSED"}, refused,
			treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED},
		"cancelled and then undone": {func(r *relatives) { r.accept(); r.cancel(); r.mustUndo() },
			[]string{"VerifyApplicant REFUSED"}, refused, treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED},
		"undone after it succeeded": {func(r *relatives) { r.succeed(); r.mustUndo() },
			[]string{"VerifyApplicant EXECUTED", "UndoVerifyApplicant EXECUTED"}, undone,
			treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT},
		"undone while it waited": {func(r *relatives) { r.accept(); r.mustUndo() },
			[]string{"VerifyApplicant ACCEPTED", "UndoVerifyApplicant EXECUTED"}, undone,
			treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT},
		"undone before it started": {(*relatives).mustUndo, []string{"UndoVerifyApplicant NULL_COMPENSATED"}, undone,
			treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelatives(t)
			test.before(r)
			for how, request := range map[string]*treatyv1.ListCommandsRequest{
				"of sagas":  {Sagas: []string{"sagas/other", "sagas/parent-1", "sagas/z"}},
				"of a time": {Since: timestamppb.New(time.Now().Add(-time.Hour))},
				"in pages":  {Sagas: []string{"sagas/parent-1"}, PageSize: 1},
			} {
				if listed := r.list(request); !slices.Equal(listed, test.listed) {
					t.Errorf("listed %s: %q, want %q", how, listed, test.listed)
				}
			}
			for range 2 {
				response, err := r.closeCommand(r.digest)
				if err != nil || fmt.Sprintf("%T", response.GetOutcome()) != fmt.Sprintf("%T", test.closed) {
					t.Fatalf("closed as %v, %v; want %T", response, err, test.closed)
				}
				if test.closed == any(executed) {
					reply := new(identityv1.ApplicantConfirmed)
					if err := proto.Unmarshal(response.GetExecuted().GetReply(), reply); err != nil ||
						reply.GetInspected().GetInspection() != "inspections/1" {
						t.Errorf("the reply is %v, %v", reply, err)
					}
				}
			}
			if test.closed == any(closed) {
				listed := r.list(&treatyv1.ListCommandsRequest{Sagas: []string{"sagas/parent-1"}})
				if !slices.Equal(listed, []string{"VerifyApplicant CLOSED"}) {
					t.Errorf("closed, and then listed %q", listed)
				}
			}
			other := strings.Repeat("0", wire.DigestLength)
			_, err := r.closeCommand(other)
			for what, err := range map[string]error{"close": err, "undo": r.undo(other)} {
				if got := failureOf(t, err); got.code != codes.Internal ||
					got.reason != treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST {
					t.Errorf("%s of another request: %v", what, err)
				}
			}
			mark, err := r.start(time.Second)
			if got := failureOf(t, err).reason; got != test.again || (err != nil) != (mark == wire.AnswerSettled) {
				t.Errorf("the next attempt is answered with the mark %q, %v; want %v", mark, err, test.again)
			}
			r.digest = other
			if mark, err := r.start(time.Second); failureOf(t, err).reason !=
				treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST || mark != wire.AnswerAttempt {
				t.Errorf("another request is answered with the mark %q, %v", mark, err)
			}
		})
	}
}

// A child whose reply its parent has, but which the store doesn't know, was lost with the store. Its compensation waits
// for a person, who undoes its effects and removes it from the lost sagas.
func TestLostChildWaitsForAPerson(t *testing.T) {
	r := newRelatives(t)
	name := "sagas/" + engine.ChildID(verifyApplicant, parentStep)
	undo := func() (mark string, err error) {
		var trailer metadata.MD
		_, err = identityv1.NewIdentitySagasClient(r.conn).UndoVerifyApplicant(
			sentBy(r.ctx(), wire.Compensation, r.digest), &identityv1.UndoVerifyApplicantRequest{
				Action: r.request, Reply: &identityv1.ApplicantConfirmed{Applicant: "applicants/1"},
			}, grpc.Trailer(&trailer))
		return strings.Join(trailer.Get(wire.AnswerKey), " "), err
	}
	want := failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_LOST, saga: name}
	for range 2 {
		if mark, err := undo(); failureOf(t, err) != want || mark != wire.AnswerAttempt {
			t.Errorf("undoing a lost child is answered with the mark %q, %v", mark, err)
		}
		if _, err := r.closeCommand(r.digest); failureOf(t, err) != want {
			t.Errorf("closing a lost child: %v", err)
		}
	}
	lost, err := r.sagas.ListLostSagas(r.ctx(), &treatyv1.ListLostSagasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	command := &treatyv1.LostCommand{
		Name: parentStep, Direction: action, Method: verifyApplicant, Participant: parentScope, Verdict: "executed",
		RequestDigest: r.digest,
	}
	listed := []*treatyv1.LostSaga{{
		Name: name, CreateTime: timestamppb.New(parentStart), Commands: []*treatyv1.LostCommand{command},
		Definition: verifyApplicant, ParentStep: parentStep, Start: treatyv1.LostSagaStart_LOST_SAGA_START_PARENT,
	}}
	if diff := cmp.Diff(listed, lost.GetLostSagas(), protocmp.Transform(),
		protocmp.IgnoreFields(listed[0], "find_time")); diff != "" {
		t.Errorf("lost sagas (-want +got):\n%s", diff)
	}
	if _, err := r.sagas.DeleteLostSaga(r.ctx(), &treatyv1.DeleteLostSagaRequest{
		Name: name, Decision: &treatyv1.Decision{Actor: "ada", Reason: "undone by hand"},
	}); err != nil {
		t.Fatal(err)
	}
	if mark, err := undo(); err != nil || mark != wire.AnswerDone {
		t.Errorf("then undoing it is answered with the mark %q, %v", mark, err)
	}
	if mark, err := r.start(time.Second); mark != wire.AnswerSettled {
		t.Errorf("then starting it is answered with the mark %q, %v", mark, err)
	}
	if len(r.identity.calls) > 0 {
		t.Errorf("commands %v", r.identity.calls)
	}
}

// A scope lists its own commands only.
func TestListIsOfOneScope(t *testing.T) {
	r := newRelatives(t)
	r.accept()
	page, err := treatyv1.NewParticipantServiceClient(r.conn).ListCommands(askingAs(r.ctx(), "others/0", parentEpoch),
		&treatyv1.ListCommandsRequest{Sagas: []string{"sagas/parent-1"}})
	if err != nil || len(page.GetCommands()) > 0 {
		t.Errorf("another scope lists %v, %v", page, err)
	}
}
