package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

const id = "sagas/s/steps/1"

var (
	digest      = strings.Repeat("1", 64)
	otherDigest = strings.Repeat("2", 64)
	noon        = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

// close closes a command and says what became of it.
func (s *service) close(t *testing.T, commandID, digest string, epoch uint64) string {
	t.Helper()
	response, err := s.inbox.CloseCommand(t.Context(), participant.Caller{Scope: "/0", Epoch: epoch},
		&treatyv1.CloseCommandRequest{
			CommandId: commandID, Method: changeAddress, RequestDigest: digest, SagaStart: timestamppb.New(noon),
		})
	switch outcome := response.GetOutcome().(type) {
	case *treatyv1.CloseCommandResponse_Executed_:
		return "executed"
	case *treatyv1.CloseCommandResponse_Accepted_:
		return "accepted"
	case *treatyv1.CloseCommandResponse_Refused_:
		return "refused " + outcome.Refused.GetFailure().GetMessage()
	case *treatyv1.CloseCommandResponse_Compensated_:
		return "compensated"
	case *treatyv1.CloseCommandResponse_Closed_:
		return "closed"
	default:
		return describe("", err)
	}
}

func (s *service) hear(t *testing.T, epoch uint64, told *treatyv1.DescribeRequest) (*treatyv1.HeardScope, error) {
	t.Helper()
	return s.inbox.Hear(t.Context(), participant.Caller{Scope: "/0", Epoch: epoch}, told)
}

// TestScopes sends calls under the epochs of scopes.
func TestScopes(t *testing.T) { each(t, scopes) }

func scopes(t *testing.T, b backend) {
	t.Helper()
	at := func(epoch uint64, scope, commandID string) func(*service) string {
		return func(s *service) string {
			return describe(s.call(t.Context(), commandID, call{direction: participant.Action, epoch: epoch,
				scope: scope}))
		}
	}
	failing := func(epoch uint64, scope, commandID string) func(*service) string {
		return func(s *service) string {
			return describe(s.call(t.Context(), commandID, call{
				direction: participant.Action, epoch: epoch, scope: scope, fails: errors.New("broken"),
			}))
		}
	}
	const stale = "Aborted treaty/STALE_EPOCH"
	for _, test := range []struct {
		name  string
		calls []func(*service) string
		want  []string
	}{
		{"another saga of the scope", []func(*service) string{at(5, "/0", "sagas/a/steps/1"), at(4, "/0",
			"sagas/b/steps/1")},
			[]string{"changed 1", stale}},
		{"another scope", []func(*service) string{at(5, "/0", "sagas/a/steps/1"), at(4, "east/0", "sagas/b/steps/1")},
			[]string{"changed 1", "changed 2"}},
		{"a call that fails raises the epoch", []func(*service) string{
			failing(5, "/0", "sagas/a/steps/1"), at(4, "/0", "sagas/b/steps/1"),
		}, []string{"Unknown", stale}},
		{"a stale duplicate", []func(*service) string{
			at(4, "/0", "sagas/a/steps/1"), at(5, "/0", "sagas/b/steps/1"), at(4, "/0", "sagas/a/steps/1"),
		}, []string{"changed 1", "changed 2", stale}},
		{"an older orchestrator knows no scopes", []func(*service) string{
			at(5, "", "sagas/a/steps/1"), at(4, "", "sagas/b/steps/1"), at(4, "", "sagas/a/steps/1"),
		}, []string{"changed 1", "changed 2", stale}},
		{"an older orchestrator after a newer one", []func(*service) string{
			at(5, "/0", "sagas/a/steps/1"), at(4, "", "sagas/a/steps/1"),
		}, []string{"changed 1", stale}},
		{"an epoch far ahead isn't remembered", []func(*service) string{
			at(1<<63-1, "/0", "sagas/a/steps/1"), at(4, "/0", "sagas/a/steps/1"),
		}, []string{"Unauthenticated treaty/EPOCH_AHEAD", "changed 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := b.fresh(t)
			for i, c := range test.calls {
				if got := c(s); got != test.want[i] {
					t.Errorf("call %d: got %q, want %q", i+1, got, test.want[i])
				}
			}
		})
	}
}

func TestHear(t *testing.T) { each(t, hearSuite) }

func hearSuite(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	heard, err := s.hear(t, 5, &treatyv1.DescribeRequest{StoreId: "a", Position: 3, Horizon: timestamppb.New(noon)})
	if err != nil || heard != nil {
		t.Errorf("at first: got %v, %v", heard, err)
	}
	heard, err = s.hear(t, 7, &treatyv1.DescribeRequest{
		StoreId: "b", Position: 2, Horizon: timestamppb.New(noon.Add(-time.Hour)),
	})
	if err != nil || heard.GetEpoch() != 5 || heard.GetPosition() != 3 || heard.GetStoreId() != "a" ||
		!heard.GetHorizon().AsTime().Equal(noon) {
		t.Errorf("then: got %v, %v", heard, err)
	}
	if _, err := s.hear(t, 6, nil); status.Code(err) != codes.Aborted {
		t.Errorf("an epoch that was replaced: got %v", err)
	}
	heard, err = s.hear(t, 7, nil)
	if err != nil || heard.GetEpoch() != 7 || heard.GetPosition() != 3 || heard.GetStoreId() != "b" ||
		!heard.GetHorizon().AsTime().Equal(noon) {
		t.Errorf("at last: got %v, %v", heard, err)
	}
}

// TestOtherRequests sends several requests under one command id.
func TestOtherRequests(t *testing.T) { each(t, otherRequests) }

func otherRequests(t *testing.T, b backend) {
	t.Helper()
	action := call{direction: participant.Action, scope: "/0", epoch: 1, digest: digest}
	undo := call{direction: participant.Compensation, scope: "/0", epoch: 1, digest: digest}
	with := func(digest string, c call) call { c.digest = digest; return c }
	const other = "Internal treaty/OTHER_REQUEST"
	for _, test := range []struct {
		name  string
		calls []call
		want  []string
	}{
		{"another action", []call{action, with(otherDigest, action)}, []string{"changed 1", other}},
		{"an undo of another action", []call{action, with(otherDigest, undo), undo},
			[]string{"changed 1", other, "restored"}},
		{"another action after the undo", []call{undo, with(otherDigest, action)}, []string{"restored", other}},
		{"an older orchestrator sends no digest", []call{action, with("", action), with("", undo)},
			[]string{"changed 1", "changed 1", "restored"}},
		{"an older row has no digest", []call{with("", action), action, undo},
			[]string{"changed 1", "changed 1", "restored"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := b.fresh(t)
			for i, c := range test.calls {
				if got := describe(s.call(t.Context(), id, c)); got != test.want[i] {
					t.Errorf("call %d: got %q, want %q", i+1, got, test.want[i])
				}
			}
		})
	}
}

// TestClose closes commands at every point of their lives.
func TestClose(t *testing.T) { each(t, closeCommands) }

func closeCommands(t *testing.T, b backend) {
	t.Helper()
	action := call{direction: participant.Action, scope: "/0", epoch: 1, digest: digest}
	undo := call{direction: participant.Compensation, scope: "/0", epoch: 1, digest: digest}
	refused, pending := action, action
	refused.fails, pending.fails = errRefused, participant.Pending(time.Minute)
	for _, test := range []struct {
		name   string
		before []call
		want   string
		after  string // what the action is answered then
	}{
		{"nothing", nil, "closed", "FailedPrecondition treaty/CLOSED_BEFORE"},
		{"executed", []call{action}, "executed", "changed 1"},
		{"refused", []call{refused}, "refused closed", "FailedPrecondition customers/1"},
		{"accepted", []call{pending}, "accepted", "pending 1m0s"},
		{"compensated", []call{action, undo}, "compensated", "FailedPrecondition treaty/COMPENSATED_BEFORE"},
		{"compensated before it arrived", []call{undo}, "compensated", "FailedPrecondition treaty/COMPENSATED_BEFORE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := b.fresh(t)
			for _, c := range test.before {
				_, _ = s.call(t.Context(), id, c)
			}
			if got := s.close(t, id, otherDigest, 1); len(test.before) > 0 && got != "Internal treaty/OTHER_REQUEST" {
				t.Errorf("closing another request: got %q", got)
			} else if len(test.before) == 0 {
				s = b.fresh(t)
			}
			for range 2 {
				if got := s.close(t, id, digest, 1); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
			_, err := s.call(t.Context(), id, action)
			reply, again := s.call(t.Context(), id, action)
			if wait, is := participant.IsPending(again); is {
				reply, again = "pending "+wait.String(), nil
			}
			if got := describe(reply, again); got != test.after {
				t.Errorf("the action is answered %q, want %q", got, test.after)
			}
			if status.Code(err) == codes.FailedPrecondition && !participant.IsSettled(err) {
				t.Errorf("the refusal %v isn't settled", err)
			}
			if got := s.close(t, id, digest, 0); got != "Aborted treaty/STALE_EPOCH" {
				t.Errorf("under an epoch that was replaced: got %q", got)
			}
		})
	}
	s := b.fresh(t)
	response, err := s.inbox.CloseCommand(t.Context(), participant.Caller{Scope: "/0", Epoch: 1},
		&treatyv1.CloseCommandRequest{CommandId: id, Method: "acme.customer.v1.CustomerService/RestoreAddress"})
	if err != nil || response.GetNotKept() == nil {
		t.Errorf("a method that isn't kept: got %v, %v", response, err)
	}
	if got := describe(s.call(t.Context(), id, action)); got != "changed 1" {
		t.Errorf("the action is answered %q afterwards", got)
	}
	// The undo of a closed action is a no-op.
	s.close(t, "sagas/s/steps/2", digest, 1)
	ctx, verdict := traced(t.Context())
	if got := describe(s.call(ctx, "sagas/s/steps/2", undo)); got != "restored" || verdict() != "null-compensated" {
		t.Errorf("the undo of a closed action is answered %q", got)
	}
}

// TestCloseRaces closes commands while they arrive.
func TestCloseRaces(t *testing.T) { each(t, closeRaces) }

func closeRaces(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for i := range 50 {
		commandID := fmt.Sprintf("sagas/s/steps/%d", i)
		var all sync.WaitGroup
		var closed, answered string
		all.Go(func() { closed = s.close(t, commandID, digest, 1) })
		all.Go(func() {
			answered = describe(s.call(t.Context(), commandID, call{
				direction: participant.Action, scope: "/0", epoch: 1, digest: digest,
			}))
		})
		all.Wait()
		executed := len(s.effects(t, commandID)) > 0
		if executed != (closed == "executed") || executed != strings.HasPrefix(answered, "changed") {
			t.Errorf("closed: %q, answered: %q, executed: %v", closed, answered, executed)
		}
	}
}

// TestListCommands lists what an inbox knows in pages.
func TestListCommands(t *testing.T) { each(t, listCommands) }

func listCommands(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	send := func(commandID, scope string, direction participant.Direction) {
		_, err := s.call(t.Context(), commandID, call{
			direction: direction, scope: scope, epoch: 1, digest: digest, start: noon,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		send(fmt.Sprintf("sagas/a/steps/%d", i), "/0", participant.Action)
	}
	send("sagas/a/steps/3", "/0", participant.Compensation)
	send("sagas/b/steps/1", "/0", participant.Action)
	send("sagas/ab/steps/1", "/0", participant.Action)
	send("sagas/c/steps/1", "east/0", participant.Action)
	send("sagas/d/steps/1", "", participant.Action)
	list := func(request *treatyv1.ListCommandsRequest) (listed []string) {
		t.Helper()
		for range 100 {
			page, err := s.inbox.ListCommands(t.Context(), participant.Caller{Scope: "/0", Epoch: 1}, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.GetCommands() {
				name := strings.TrimPrefix(c.GetCommandId(), "sagas/")
				if c.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
					name = "undo " + name
				}
				listed = append(listed, name)
				if c.GetVerdict() != treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED ||
					c.GetRequestDigest() != digest || !c.GetSagaStart().AsTime().Equal(noon) ||
					time.Since(c.GetUpdateTime().AsTime()) > time.Minute {
					t.Errorf("listed %v", c)
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return listed
			}
		}
		t.Fatal("the pages don't end")
		return nil
	}
	all := "a/steps/0 a/steps/1 a/steps/2 a/steps/3 a/steps/4 undo a/steps/3 b/steps/1 ab/steps/1 d/steps/1"
	for _, size := range []int32{0, 1, 2, 3, 1000} {
		since := &treatyv1.ListCommandsRequest{Since: timestamppb.New(time.Now().Add(-time.Hour)), PageSize: size}
		if got := strings.Join(list(since), " "); got != all {
			t.Errorf("since an hour ago, %d at a time: %s", size, got)
		}
		sagas := &treatyv1.ListCommandsRequest{Sagas: []string{"sagas/c", "sagas/b", "sagas/a", "sagas/x"},
			PageSize: size}
		want := "a/steps/0 a/steps/1 a/steps/2 a/steps/3 undo a/steps/3 a/steps/4 b/steps/1"
		if got := strings.Join(list(sagas), " "); got != want {
			t.Errorf("of sagas, %d at a time: %s", size, got)
		}
	}
	if got := list(&treatyv1.ListCommandsRequest{Since: timestamppb.New(time.Now().Add(time.Hour))}); len(got) > 0 {
		t.Errorf("since later: %v", got)
	}
}

// TestHorizon purges rows only after the orchestrator has said that their sagas are over, and doesn't execute what may
// have been purged.
func TestHorizon(t *testing.T) { each(t, horizon) }

func horizon(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	early := call{direction: participant.Action, scope: "/0", epoch: 1, digest: digest, start: noon}
	late := early
	late.start = noon.Add(time.Hour)
	other, none := early, early
	other.scope, none.scope, none.start = "east/0", "", time.Time{}
	for commandID, c := range map[string]call{
		"sagas/early/steps/1": early, "sagas/late/steps/1": late, "sagas/other/steps/1": other,
		"sagas/none/steps/1": none,
	} {
		if _, err := s.call(t.Context(), commandID, c); err != nil {
			t.Fatal(err)
		}
	}
	purge := func(want int64) {
		t.Helper()
		if n, err := inbox.Purge(t.Context(), s.inbox, time.Now().Add(time.Hour)); err != nil || n != want {
			t.Errorf("%d rows were purged, %v; want %d", n, err, want)
		}
	}
	purge(1) // of the older orchestrator
	if _, err := s.hear(t, 1, &treatyv1.DescribeRequest{Horizon: timestamppb.New(noon)}); err != nil {
		t.Fatal(err)
	}
	purge(0)
	if _, err := s.hear(t, 1, &treatyv1.DescribeRequest{Horizon: timestamppb.New(noon.Add(time.Minute))}); err != nil {
		t.Fatal(err)
	}
	purge(1)
	undo := early
	undo.direction = participant.Compensation
	for name, c := range map[string]call{"action": early, "compensation": undo} {
		if got := describe(s.call(t.Context(), "sagas/early/steps/1", c)); got != "Internal treaty/PURGED" {
			t.Errorf("the %s is answered %q", name, got)
		}
	}
	if got := s.close(t, "sagas/early/steps/1", digest, 1); got != "Internal treaty/PURGED" {
		t.Errorf("closing is answered %q", got)
	}
	if got := describe(s.call(t.Context(), "sagas/late/steps/1", late)); !strings.HasPrefix(got, "changed") {
		t.Errorf("a row behind the horizon is answered %q", got)
	}
	if err := inbox.DropScope(t.Context(), s.inbox, "east/0"); err != nil {
		t.Fatal(err)
	}
	purge(1)
	other.digest = ""
	if got := describe(s.call(t.Context(), "sagas/other/steps/1", other)); got != "Internal treaty/PURGED" {
		t.Errorf("a command of a dropped scope is answered %q", got)
	}
}

// TestSettledIsFinal sends random calls. What was settled stays, and no action is executed twice, or after its
// compensation or close.
func TestSettledIsFinal(t *testing.T) { each(t, settledIsFinal) }

func settledIsFinal(t *testing.T, b backend) {
	t.Helper()
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := b.fresh(t)
		epoch, settled, over := uint64(1), false, false
		for range 25 {
			c := call{direction: participant.Action, scope: "/0", epoch: epoch, digest: digest, start: noon}
			before := len(s.effects(t, id))
			var answer string
			var err error
			switch random.IntN(8) {
			case 0:
				epoch++
				continue
			case 1:
				c.direction = participant.Compensation
				_, err = s.call(context.Background(), id, c)
				over = over || err == nil
				continue
			case 2:
				if s.close(t, id, digest, epoch) == "closed" {
					over = true
				}
				continue
			case 3:
				c.fails = errRefused
			case 4:
				c.fails = errors.New("broken")
			case 5:
				c.epoch = epoch - 1
			case 6:
				c.digest = otherDigest
			}
			answer, err = s.call(context.Background(), id, c)
			executed := len(s.effects(t, id)) > before
			switch {
			case executed && (settled || over || before > 0):
				t.Fatalf("seed %d: executed although it was settled (%v) or over (%v): %q", seed, settled, over, answer)
			case settled && err == nil:
				t.Fatalf("seed %d: answered %q although a refusal was settled", seed, answer)
			}
			settled = settled || participant.IsSettled(err)
		}
	}
}
