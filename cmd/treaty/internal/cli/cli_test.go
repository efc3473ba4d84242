package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// session is the outcome of one command line.
type session struct {
	stdout, stderr string
	code           int
}

// setup is a command line and its surroundings.
type setup struct {
	args    []string
	env     map[string]string
	stdin   string
	screen  *render.Screen
	address string
	settle  time.Duration

	readAgain time.Duration // default: never
	patience  time.Duration // default: endless
	terminal  bool          // stderr is one
}

// buffer collects what a command writes from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func process(s setup, stdout, stderr *buffer) Process {
	if s.readAgain == 0 {
		s.readAgain = time.Hour
	}
	if s.patience == 0 {
		s.patience = time.Hour
	}
	env := map[string]string{"USER": "ada", "TREATY_ADDRESS": s.address}
	maps.Copy(env, s.env)
	return Process{
		Args: s.args, Stdin: strings.NewReader(s.stdin), Stdout: stdout, Stderr: stderr,
		Getenv:   func(key string) string { return env[key] },
		Now:      func() time.Time { return began.Add(90 * time.Second) },
		Location: time.FixedZone("CEST", 2*60*60),
		Screen: func() (render.Screen, bool) {
			if s.screen == nil {
				return render.Screen{}, false
			}
			return *s.screen, true
		},
		Raw:    func() (func(), bool) { return nil, false },
		Pause:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Settle: s.settle, ReadAgain: s.readAgain, StderrTerminal: s.terminal, Patience: s.patience,
		Build: Build{Version: "v1.2.3", Revision: "abc123", Go: "go1.99"},
	}
}

// run runs one command line. In the output, ADDRESS replaces the address of the server.
func run(t *testing.T, s setup) session {
	t.Helper()
	var stdout, stderr buffer
	code := Run(t.Context(), process(s, &stdout, &stderr))
	out := session{stdout.String(), stderr.String(), code}
	if s.address != "" {
		out.stdout = strings.ReplaceAll(out.stdout, s.address, "ADDRESS")
		out.stderr = strings.ReplaceAll(out.stderr, s.address, "ADDRESS")
	}
	if whole := out.stdout + out.stderr; strings.Contains(whole, "secret") &&
		!strings.Contains(strings.Join(s.args, " ")+s.stdin, "secret") {
		t.Errorf("the output has the value of a debug_redact field:\n%s", whole)
	}
	return out
}

// golden compares a session with its golden file.
func golden(t *testing.T, name string, s setup, got session) {
	t.Helper()
	var text strings.Builder
	text.WriteString("$ treaty")
	for _, arg := range s.args {
		text.WriteString(" " + render.ShellQuote(arg))
	}
	text.WriteString("\n" + strings.ReplaceAll(got.stdout, "\x1b", "␛"))
	if got.stderr != "" {
		text.WriteString("-- stderr --\n" + strings.ReplaceAll(got.stderr, "\x1b", "␛"))
	}
	text.WriteString("-- exit " + strconv.Itoa(got.code) + " --\n")
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./cmd/treaty/... -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// full serves a saga of each kind.
func full(t *testing.T, f *servertest.Server) {
	f.Sagas = []*treatyv1.Saga{
		succeeded(t), compensated(t), running(t), parked(t), foreign(t),
		suspended(t, "stuck-1", treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED),
		suspended(t, "stuck-2", treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH),
		suspended(t, "stuck-3", treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN),
		suspended(t, "stuck-4", treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT),
		suspended(t, "stuck-5", treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE),
		doubtful(t), mismatchAfterPivot(t), parent(t),
		suspended(t, "pending-1", treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING),
		suspended(t, "retriable-1", treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN),
		suspended(t, "other-1", treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST),
		undoing(suspended(t, "other-2", treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST)),
		suspended(t, "purged-1", treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED),
		undoing(suspended(t, "purged-2", treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED)),
		suspended(t, "restored-1", treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED),
		suspended(t, "restored-2", treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE),
		suspended(t, "restored-3", treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE),
		suspended(t, "restored-4", treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED),
		suspended(t, "restored-5", treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD),
		standing(t),
	}
	f.Records = journalOf(t, "sagas/order-2")
	f.Lost = lost()
	f.Participants = participants()
}

// history is what a watcher of the compensated saga receives. The connection breaks once.
func history(t *testing.T) []servertest.Stage {
	end := compensated(t)
	begin := newSaga(t, "order-2", treatyv1.SagaState_SAGA_STATE_RUNNING)
	begin.UpdateTime = at(ms(1))
	first := reserveStep(t, "order-2", treatyv1.StepState_STEP_STATE_SCHEDULED)
	first.EndTime, first.Reply = nil, nil
	begin.Steps = []*treatyv1.Step{first}
	middle := newSaga(t, "order-2", treatyv1.SagaState_SAGA_STATE_COMPENSATING)
	middle.Failure, middle.UpdateTime = declined(t), at(ms(2000))
	undoing := reserveStep(t, "order-2", treatyv1.StepState_STEP_STATE_COMPENSATING)
	undoing.CompensationScheduleTime = at(ms(2000))
	middle.Steps = []*treatyv1.Step{undoing, end.GetSteps()[1]}
	return []servertest.Stage{
		{Sagas: []*treatyv1.Saga{begin}, Err: status.Error(codes.Unavailable, "going down")},
		{Sagas: []*treatyv1.Saga{begin, middle}},
		{Sagas: []*treatyv1.Saga{middle, end}},
	}
}

func TestCommands(t *testing.T) {
	wide, narrow := &render.Screen{Width: 160, Height: 50}, &render.Screen{Width: 80, Height: 24}
	orderFlags := []string{"start", placeOrder, "--data", `{"customer":"c-7"}`}
	cases := []struct {
		name    string
		setup   setup
		streams func(*testing.T) []servertest.Stage
	}{
		{name: "list", setup: setup{args: []string{"sagas", "list", "--all"}}},
		{name: "list_page", setup: setup{args: []string{"sagas", "list"}}},
		{name: "list_next_page", setup: setup{args: []string{"sagas", "list", "--page-token", "page-2"}}},
		{name: "list_json", setup: setup{args: []string{"sagas", "list", "--all", "--json"}}},
		{name: "list_terminal", setup: setup{args: []string{"sagas", "list", "--all"}, screen: wide}},
		{name: "list_terminal_narrow", setup: setup{args: []string{"sagas", "list", "--all"}, screen: narrow}},
		{name: "get_succeeded", setup: setup{args: []string{"sagas", "get", "order-1"}}},
		{name: "get_payloads", setup: setup{args: []string{"sagas", "get", "order-1", "--payloads"}}},
		{name: "get_compensated", setup: setup{args: []string{"sagas", "get", "sagas/order-2"}}},
		{name: "get_running", setup: setup{args: []string{"sagas", "get", "order-3"}}},
		{name: "get_parked", setup: setup{args: []string{"sagas", "get", "order-7"}}},
		{name: "get_unknown_types", setup: setup{args: []string{"sagas", "get", "foreign-1"}}},
		{name: "get_unknown_types_json", setup: setup{args: []string{"sagas", "get", "foreign-1", "--json"}}},
		{name: "get_compensation_refused", setup: setup{args: []string{"sagas", "get", "stuck-1"}}},
		{name: "get_mismatch", setup: setup{args: []string{"sagas", "get", "stuck-2"}}},
		{name: "get_mismatch_after_pivot", setup: setup{args: []string{"sagas", "get", "stuck-6"}}},
		{name: "get_child_suspended", setup: setup{args: []string{"sagas", "get", "parent-1"}}},
		{name: "get_pivot_unknown", setup: setup{args: []string{"sagas", "get", "stuck-3"}}},
		{name: "get_failed_after_pivot", setup: setup{args: []string{"sagas", "get", "stuck-4"}}},
		{name: "get_no_code", setup: setup{args: []string{"sagas", "get", "stuck-5"}}},
		{name: "get_may_have_run", setup: setup{args: []string{"sagas", "get", "doubt-1"}}},
		{name: "get_pivot_pending", setup: setup{args: []string{"sagas", "get", "pending-1"}}},
		{name: "get_retriable_unknown", setup: setup{args: []string{"sagas", "get", "retriable-1"}}},
		{name: "get_other_request", setup: setup{args: []string{"sagas", "get", "other-1"}}},
		{name: "get_other_request_undo", setup: setup{args: []string{"sagas", "get", "other-2"}}},
		{name: "get_purged", setup: setup{args: []string{"sagas", "get", "purged-1"}}},
		{name: "get_purged_undo", setup: setup{args: []string{"sagas", "get", "purged-2"}}},
		{name: "get_restored", setup: setup{args: []string{"sagas", "get", "restored-1"}}},
		{name: "get_restored_undone", setup: setup{args: []string{"sagas", "get", "restored-2"}}},
		{name: "get_restored_overdue", setup: setup{args: []string{"sagas", "get", "restored-3"}}},
		{name: "get_restored_unlisted", setup: setup{args: []string{"sagas", "get", "restored-4"}}},
		{name: "get_restored_child", setup: setup{args: []string{"sagas", "get", "restored-5"}}},
		{name: "get_not_driven", setup: setup{args: []string{"sagas", "get", "standing-1"}}},
		{name: "get_not_driven_json", setup: setup{args: []string{"sagas", "get", "standing-1", "--json"}}},
		{name: "get_not_driven_terminal", setup: setup{args: []string{"sagas", "get", "standing-1"}, screen: narrow}},
		{name: "watch_not_driven", setup: setup{args: []string{"sagas", "watch", "standing-1"}},
			streams: standingHistory},
		{name: "wait_not_driven", setup: setup{args: []string{"sagas", "wait", "standing-1"}},
			streams: standingHistory},
		{name: "get_json", setup: setup{args: []string{"sagas", "get", "order-2", "--json"}}},
		{name: "get_terminal", setup: setup{args: []string{"sagas", "get", "order-2"}, screen: wide}},
		{name: "get_terminal_running", setup: setup{args: []string{"sagas", "get", "order-3"}, screen: wide}},
		{name: "get_terminal_narrow", setup: setup{args: []string{"sagas", "get", "order-2"}, screen: narrow}},
		{name: "get_terminal_no_color",
			setup: setup{args: []string{"sagas", "get", "stuck-1", "--no-color"}, screen: wide}},
		{name: "get_terminal_NO_COLOR",
			setup: setup{args: []string{"sagas", "get", "stuck-1"}, screen: wide,
				env: map[string]string{"NO_COLOR": "1"}}},
		{name: "watch", setup: setup{args: []string{"sagas", "watch", "order-2"}}, streams: history},
		{name: "watch_json", setup: setup{args: []string{"sagas", "watch", "order-2", "--json"}}, streams: history},
		{name: "watch_terminal", setup: setup{args: []string{"sagas", "watch", "order-2"}, screen: narrow},
			streams: history},
		{name: "watch_terminal_low",
			setup: setup{args: []string{"sagas", "watch", "order-2"},
				screen: &render.Screen{Width: 40, Height: 6}}, streams: history},
		{name: "wait_succeeded", setup: setup{args: []string{"sagas", "wait", "order-1"}}},
		{name: "wait_compensated", setup: setup{args: []string{"sagas", "wait", "order-2"}}, streams: history},
		{name: "wait_json", setup: setup{args: []string{"sagas", "wait", "order-2", "--json"}}},
		{name: "wait_timeout", setup: setup{args: []string{"sagas", "wait", "order-3", "--timeout", "2s"}}},
		{name: "wait_suspended", setup: setup{args: []string{"sagas", "wait", "stuck-1", "--timeout", "2s"}}},
		{name: "cancel",
			setup: setup{args: []string{"sagas", "cancel", "order-3", "--reason", "the customer withdrew"}}},
		{name: "cancel_json",
			setup: setup{args: []string{"sagas", "cancel", "order-3", "--reason", "the customer withdrew", "--json"}}},
		{name: "resume", setup: setup{args: []string{"sagas", "resume", "stuck-2", "--reason", "fixed"}}},
		{name: "resume_json",
			setup: setup{args: []string{"sagas", "resume", "stuck-2", "--reason", "fixed", "--retry", "--json"}}},
		{name: "records", setup: setup{args: []string{"sagas", "records", "order-2"}}},
		{name: "records_json", setup: setup{args: []string{"sagas", "records", "order-2", "--json"}}},
		{name: "records_terminal", setup: setup{args: []string{"sagas", "records", "order-2"}, screen: wide}},
		{name: "lost", setup: setup{args: []string{"sagas", "lost", "--all"}}},
		{name: "lost_page", setup: setup{args: []string{"sagas", "lost"}}},
		{name: "lost_json", setup: setup{args: []string{"sagas", "lost", "--all", "--json"}}},
		{name: "lost_terminal", setup: setup{args: []string{"sagas", "lost", "--all"}, screen: wide}},
		{name: "lost_forget",
			setup: setup{args: []string{"sagas", "lost", "--forget", "gone-1", "--reason", "refunded by hand"}}},
		{name: "lost_forget_json",
			setup: setup{args: []string{"sagas", "lost", "--forget", "gone-1", "--reason", "refunded by hand",
				"--json"}}},
		{name: "help_lost", setup: setup{args: []string{"sagas", "lost", "--help"}}},
		{name: "start", setup: setup{args: orderFlags}},
		{name: "start_json", setup: setup{args: append(slices.Clone(orderFlags), "--json")}},
		{name: "start_wait", setup: setup{args: append(slices.Clone(orderFlags), "--saga-id", "order-1", "--wait")}},
		{name: "start_wait_json",
			setup: setup{args: append(slices.Clone(orderFlags), "--saga-id", "order-1", "--wait", "--json")}},
		{name: "start_wait_compensated",
			setup: setup{args: append(slices.Clone(orderFlags), "--saga-id", "order-2", "--wait")}},
		{name: "doctor", setup: setup{args: []string{"doctor"}}},
		{name: "doctor_json", setup: setup{args: []string{"doctor", "--json"}}},
		{name: "help_doctor", setup: setup{args: []string{"doctor", "--help"}}},
		{name: "definitions", setup: setup{args: []string{"definitions"}}},
		{name: "definitions_json", setup: setup{args: []string{"definitions", "--json"}}},
		{name: "version", setup: setup{args: []string{"version"}}},
		{name: "version_flag", setup: setup{args: []string{"--version"}}},
		{name: "version_json", setup: setup{args: []string{"version", "--json"}}},
		{name: "help", setup: setup{args: []string{"--help"}}},
		{name: "help_sagas", setup: setup{args: []string{"sagas"}}},
		{name: "help_resume", setup: setup{args: []string{"sagas", "resume", "--help"}}},
		{name: "help_cancel", setup: setup{args: []string{"sagas", "cancel", "--help"}}},
		{name: "help_start", setup: setup{args: []string{"start", "--help"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := servertest.New(t)
			full(t, f)
			if c.streams != nil {
				f.Streams = c.streams(t)
			}
			c.setup.address = f.Address
			if strings.HasPrefix(c.name, "help") {
				c.setup.address = defaultAddress
			}
			got := run(t, c.setup)
			golden(t, c.name, c.setup, got)
			if strings.Contains(c.name, "json") {
				validJSONLines(t, strings.NewReader(got.stdout))
			}
			if c.setup.screen == nil && strings.Contains(got.stdout+got.stderr, "\x1b") {
				t.Error("the output of a pipe has an escape sequence")
			}
		})
	}
}

// TestRequests checks the requests that the commands send.
func TestRequests(t *testing.T) {
	f := servertest.New(t)
	full(t, f)
	do := func(t *testing.T, stdin string, args ...string) {
		t.Helper()
		if got := run(t, setup{args: args, stdin: stdin, address: f.Address}); got.code != 0 {
			t.Fatalf("exit %d: %s", got.code, got.stderr)
		}
	}
	t.Run("filter", func(t *testing.T) {
		do(t, "", "sagas", "list", "--state", "running,SAGA_STATE_SUSPENDED", "--definition", "/"+placeOrder,
			"--filter", "labels.a = \"b\" OR labels.c = \"d\"", "--order-by", "update_time", "--page-size", "7")
		got := servertest.Last[*treatyv1.ListSagasRequest](t, f)
		want := `(state = "RUNNING" OR state = "SUSPENDED") AND definition = "shop.v1.OrderSagas/PlaceOrder"` +
			` AND (labels.a = "b" OR labels.c = "d")`
		if got.GetFilter() != want || got.GetOrderBy() != "update_time" || got.GetPageSize() != 7 {
			t.Errorf("got %v, want the filter %s", got, want)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		do(t, "", "sagas", "cancel", "order-3", "--reason", " why ", "--actor", "bob")
		got := servertest.Last[*treatyv1.CancelSagaRequest](t, f)
		if got.GetName() != "sagas/order-3" || got.GetDecision().GetActor() != "bob" ||
			got.GetDecision().GetReason() != "why" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("forget", func(t *testing.T) {
		do(t, "", "sagas", "lost", "--forget", "gone-2", "--reason", " why ", "--actor", "bob")
		got := servertest.Last[*treatyv1.DeleteLostSagaRequest](t, f)
		if got.GetName() != "sagas/gone-2" || got.GetDecision().GetActor() != "bob" ||
			got.GetDecision().GetReason() != "why" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("lost", func(t *testing.T) {
		do(t, "", "sagas", "lost", "--page-size", "7", "--page-token", "rest")
		got := servertest.Last[*treatyv1.ListLostSagasRequest](t, f)
		if got.GetPageSize() != 7 || got.GetPageToken() != "rest" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("retry", func(t *testing.T) {
		do(t, "", "sagas", "resume", "stuck-2", "--reason", "why")
		if got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f); got.GetRetry() == nil ||
			got.GetDecision().GetActor() != "ada" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("retry edited", func(t *testing.T) {
		file := writeFile(t, "request.json", `{"reply":{"reservation":"res-10"}}`)
		do(t, "", "sagas", "resume", "stuck-1", "--reason", "why", "--retry-edited", "@"+file)
		got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f).GetRetryEdited().GetRequest()
		if diff := cmp.Diff(servertest.ShopAny(t, "shop.v1.ReleaseRequest",
			`{"reply":{"reservation":"res-10"}}`).String(), got.String()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("mark done", func(t *testing.T) {
		do(t, "", "sagas", "resume", "stuck-1", "--reason", "why", "--mark-done")
		if got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f); got.GetMarkDone() == nil ||
			got.GetMarkDone().GetReply() != nil {
			t.Errorf("got %v", got)
		}
	})
	receipt := `{"receipt":"rcp-3"}`
	for _, args := range [][]string{
		{"stuck-3", "--mark-done", receipt},
		{"--mark-done", receipt, "stuck-3"},
		{"stuck-3", "--mark-done=" + receipt},
		{"stuck-3", "--mark-done", "-"},
	} {
		t.Run("mark done "+strings.Join(args, " "), func(t *testing.T) {
			do(t, receipt, append([]string{"sagas", "resume", "--reason", "why"}, args...)...)
			got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f)
			want := servertest.ShopAny(t, "shop.v1.Captured", receipt)
			if got.GetName() != "sagas/stuck-3" || got.GetMarkDone().GetReply().String() != want.String() {
				t.Errorf("got %v", got)
			}
		})
	}
	reserved := `{"reservation":"res-9"}`
	for saga, reply := range map[string]struct{ message, json string }{
		"pending-1":   {"shop.v1.Captured", receipt},
		"retriable-1": {"shop.v1.Captured", receipt},
		"other-1":     {"shop.v1.Reserved", reserved},
		"other-2":     {"shop.v1.Released", "{}"},
		"purged-1":    {"shop.v1.Reserved", reserved},
		"purged-2":    {"shop.v1.Released", "{}"},
	} {
		t.Run("mark done "+saga, func(t *testing.T) {
			do(t, "", "sagas", "resume", saga, "--reason", "why", "--mark-done="+reply.json)
			got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f)
			want := servertest.ShopAny(t, reply.message, reply.json)
			if got.GetName() != "sagas/"+saga || got.GetMarkDone().GetReply().String() != want.String() {
				t.Errorf("got %v", got)
			}
		})
	}
	t.Run("mark refused", func(t *testing.T) {
		do(t, "", "sagas", "resume", "stuck-3", "--reason", "why", "--mark-refused")
		if got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f); got.GetMarkRefused() == nil {
			t.Errorf("got %v", got)
		}
	})
	t.Run("take over", func(t *testing.T) {
		do(t, "", "sagas", "resume", "other-1", "--reason", "why", "--take-over")
		if got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f); got.GetTakeOver() == nil {
			t.Errorf("got %v", got)
		}
	})
	t.Run("take over many", func(t *testing.T) {
		do(t, "", "sagas", "resume", "--filter", "labels:a OR labels:b", "--reason", "why", "--take-over", "--yes")
		if got := servertest.Last[*treatyv1.ResumeSagaRequest](t, f); got.GetTakeOver() == nil {
			t.Errorf("got %v", got)
		}
		list := servertest.Last[*treatyv1.ListSagasRequest](t, f)
		if want := `state = "SUSPENDED" AND (labels:a OR labels:b)`; list.GetFilter() != want {
			t.Errorf("the filter is %s, want %s", list.GetFilter(), want)
		}
	})
	t.Run("start", func(t *testing.T) {
		do(t, `{"customer":"c-7"}`, "start", "/"+placeOrder, "--data", "-", "--request-id", "r-9", "--saga-id", "x")
		got := servertest.Last[*treatyv1.CreateSagaRequest](t, f)
		want := servertest.ShopAny(t, "shop.v1.PlaceOrderRequest", `{"customer":"c-7","requestId":"r-9"}`)
		if got.GetDefinition() != placeOrder || got.GetRequestId() != "r-9" || got.GetSagaId() != "x" ||
			got.GetRequest().String() != want.String() {
			t.Errorf("got %v", got)
		}
	})
	t.Run("start with the request id in the data", func(t *testing.T) {
		do(t, "", "start", placeOrder, "--data", `{"requestId":"r-9"}`, "--request-id", "r-9")
	})
	t.Run("start without a request id field", func(t *testing.T) {
		do(t, "", "start", "shop.v1.OrderSagas/CloseShop", "--request-id", "r-9")
		if got := servertest.Last[*treatyv1.CreateSagaRequest](t, f); got.GetRequestId() != "r-9" ||
			len(got.GetRequest().GetValue()) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

// TestWithoutReflection checks that payloads of unknown types are never shown.
func TestWithoutReflection(t *testing.T) {
	f := servertest.New(t, servertest.WithoutReflection)
	full(t, f)
	for name, s := range map[string]setup{
		"no_reflection_get":     {args: []string{"sagas", "get", "order-2"}},
		"no_reflection_records": {args: []string{"sagas", "records", "order-2", "--json"}},
		"no_reflection_start":   {args: []string{"start", placeOrder}},
	} {
		t.Run(name, func(t *testing.T) {
			s.address = f.Address
			golden(t, name, s, run(t, s))
		})
	}
}

// TestInterrupted checks that a signal ends a watch without a message.
func TestInterrupted(t *testing.T) {
	f := servertest.New(t)
	saga := running(t)
	saga.Steps[1].Attempts = nil
	f.Sagas = []*treatyv1.Saga{saga}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan struct{})
	var stderr buffer
	p := process(setup{args: []string{"sagas", "watch", "order-3"}, address: f.Address}, &buffer{}, &stderr)
	p.Stdout = signalWriter{seen: sync.OnceFunc(func() { close(seen) })}
	done := make(chan int, 1)
	go func() { done <- Run(ctx, p) }()
	<-seen
	cancel()
	if code := <-done; code != problem.ExitInterrupted || stderr.String() != "" {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}

// signalWriter calls seen at each write.
type signalWriter struct{ seen func() }

func (w signalWriter) Write(p []byte) (int, error) {
	w.seen()
	return len(p), nil
}

// TestOutputFails checks that a full disk fails the run.
func TestOutputFails(t *testing.T) {
	var stderr buffer
	p := process(setup{args: []string{"version"}}, &buffer{}, &stderr)
	p.Stdout = brokenWriter{}
	if code := Run(t.Context(), p); code != problem.ExitFailure || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errNoSpace }

var errNoSpace = status.Error(codes.Unknown, "no space left")

// writeFile writes a file that a command line names, and returns its path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// validJSONLines fails unless every line is one JSON value.
func validJSONLines(t *testing.T, r io.Reader) {
	t.Helper()
	for decoder := json.NewDecoder(r); ; {
		var value map[string]any
		if err := decoder.Decode(&value); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("not JSON: %v", err)
		}
	}
}
