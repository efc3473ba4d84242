package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// using returns a saga that uses every feature of the saga language.
func using(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "order-8", treatyv1.SagaState_SAGA_STATE_RUNNING)
	saga.Request = nil
	saga.ParentStep, saga.Round = "sagas/parent/steps/2.1.1", 3
	saga.Progress = servertest.ShopAny(t, "shop.v1.Stage", `{"done":"packing","card":{"number":"4111-secret"}}`)
	saga.Scopes = []*treatyv1.Scope{
		{Scope: "1", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: declined(t),
			DecideTime: at(ms(400))},
		{Scope: "2", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE, DecideTime: at(ms(450))},
	}
	saga.Waits = []*treatyv1.Wait{
		{
			Wait: "r3.5", DueTime: at(time.Hour), ScheduleTime: at(ms(480)),
			Events: []*treatyv1.EventKey{{Type: "shop.v1.OrderShipped", Subject: "orders/1"},
				{Type: "shop.v1.OrderLost", Subject: "orders/1"}},
		},
		{Wait: "r3.6.1.1", DueTime: at(2 * time.Hour), ScheduleTime: at(ms(490))},
		{Wait: "r3.6.2.1", Events: []*treatyv1.EventKey{{Type: "shop.v1.OrderShipped", Subject: "orders/2"}},
			ScheduleTime: at(ms(490))},
		{Wait: "r3.7", Broadcast: "shop.v1.PrivacyService/Forget"},
	}
	sent := reserveStep(t, "order-8", treatyv1.StepState_STEP_STATE_DONE)
	sent.Name, sent.Participant = "sagas/order-8/steps/r3.3.1.1", "shop.v1.PaymentService"
	accepted := captureStep(t, "order-8", treatyv1.StepState_STEP_STATE_SCHEDULED)
	accepted.Name = "sagas/order-8/steps/r3.4"
	accepted.Attempts = &treatyv1.Attempts{
		Count: 1, Accepted: true, LastOutcome: "unknown", NextTime: at(93 * time.Second),
		LastFailure: &treatyv1.Failure{Code: int32(codes.Unknown), Message: "accepted"},
	}
	saga.Steps = []*treatyv1.Step{sent, accepted}
	return saga
}

// parentOf returns a saga whose second step is a child saga, which the participant of the step has accepted.
func parentOf(t testing.TB, child string) *treatyv1.Saga {
	saga := using(t)
	step := saga.GetSteps()[1]
	step.Method, step.Child = placeOrder, child
	step.Attempts.NextTime = at(time.Hour)
	return saga
}

// usingHistory is what a watcher of that saga receives.
func usingHistory(t testing.TB) []servertest.Stage {
	begin := using(t)
	begin.Progress, begin.Waits, begin.Scopes, begin.Round, begin.Steps = nil, nil, nil, 2, nil
	middle := using(t)
	middle.Waits = middle.GetWaits()[:1]
	middle.Progress = nil
	end := using(t)
	end.State, end.Waits, end.EndTime = treatyv1.SagaState_SAGA_STATE_SUCCEEDED, nil, at(ms(600))
	return []servertest.Stage{{Sagas: []*treatyv1.Saga{begin, middle, using(t), end}}}
}

// journalUsing returns a journal with a record of every kind that saga code causes.
func journalUsing(t testing.TB, saga string) []*treatyv1.SagaRecord {
	key := &treatyv1.EventKey{Type: "shop.v1.OrderShipped", Subject: "orders/1"}
	shipped := servertest.ShopBytes(t, "shop.v1.OrderShipped", `{"order":"orders/1","pickupCode":"secret"}`)
	records := []*treatyv1.Record{
		{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: &treatyv1.SagaRestarted{
			Started: &treatyv1.SagaStarted{Definition: placeOrder,
				Request: servertest.ShopBytes(t, "shop.v1.PlaceOrderRequest", orderJSON)},
			Round: 2, Progress: servertest.ShopAny(t, "shop.v1.Stage",
				`{"done":"packing","card":{"number":"4111-secret"}}`),
		}}},
		{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{Wait: "r2.1", Due: at(time.Hour),
			Events: []*treatyv1.EventKey{{Type: "other.v1.Gone", Subject: "1"}, key}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.1",
			How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{
				Index: 1, Position: 4711, Source: "warehouse", Id: "7", Data: shipped,
			}}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.1",
			How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{
				Index: 0, Position: 4712, Source: "warehouse", Id: "8", Data: []byte("secret"),
			}}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.2",
			How: &treatyv1.WaitEnded_Due_{Due: &treatyv1.WaitEnded_Due{}}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.3",
			How: &treatyv1.WaitEnded_Stopped_{Stopped: &treatyv1.WaitEnded_Stopped{}}}}},
		{Kind: &treatyv1.Record_ScopeOpened{ScopeOpened: &treatyv1.ScopeOpened{Scope: "r2.4",
			Deadline: at(time.Minute)}}},
		{Kind: &treatyv1.Record_ScopeExpired{ScopeExpired: &treatyv1.ScopeExpired{Scope: "r2.4"}}},
		{Kind: &treatyv1.Record_ScopeCompensationDecided{ScopeCompensationDecided: &treatyv1.ScopeCompensationDecided{
			Scope: "r2.4", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
			Failure: &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "too late"},
		}}},
		{Kind: &treatyv1.Record_BroadcastScheduled{BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "r2.5",
			Method: reserve, Participants: []string{"a.v1.A", "b.v1.B"}}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
			Step: "r2.5.1.1", Method: reserve, Participant: "a.v1.A",
			Kind:    treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			Request: servertest.ShopBytes(t, "shop.v1.ReserveRequest", reserveJSON),
		}}},
		{Kind: &treatyv1.Record_BroadcastScheduled{BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "r2.6",
			Method: reserve}}},
		{Kind: &treatyv1.Record_VersionChosen{VersionChosen: &treatyv1.VersionChosen{Change: "pack-first",
			Version: 2}}},
		{Kind: &treatyv1.Record_ProgressSet{ProgressSet: &treatyv1.ProgressSet{Progress: servertest.ShopAny(t,
			"shop.v1.Stage", `{"done":"sent"}`)}}},
		{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: &treatyv1.CompensationDecided{
			Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
		}}},
	}
	var out []*treatyv1.SagaRecord
	for i, record := range records {
		out = append(out,
			&treatyv1.SagaRecord{Name: fmt.Sprintf("%s/records/%d-1", saga, i+1), Time: at(ms(10 * i)), Record: record})
	}
	return out
}

func shipment(t testing.TB, position uint64) *treatyv1.PublishedEvent {
	subject := fmt.Sprintf("orders/%d", position)
	return &treatyv1.PublishedEvent{
		Id: fmt.Sprint(position), Source: "warehouse", Type: "shop.v1.OrderShipped", Subject: subject,
		Position: position, Time: at(ms(int(position))),
		Data: servertest.ShopAny(t, "shop.v1.OrderShipped", `{"order":"`+subject+`","pickupCode":"secret"}`),
	}
}

// eventHistory is what a reader of events receives. The connection breaks once.
func eventHistory(t testing.TB) []servertest.EventStage {
	foreign := shipment(t, 14)
	foreign.Type, foreign.Data.TypeUrl = "other.v1.Gone", "type.googleapis.com/other.v1.Gone"
	return []servertest.EventStage{
		{Events: []*treatyv1.PublishedEvent{shipment(t, 11), shipment(t, 12)},
			Err: status.Error(codes.Unavailable, "going down")},
		{Events: []*treatyv1.PublishedEvent{shipment(t, 13), foreign, shipment(t, 15)}},
	}
}

func TestLanguage(t *testing.T) {
	wide := &render.Screen{Width: 160, Height: 50}
	for _, c := range []struct {
		name  string
		setup setup
	}{
		{"language_get", setup{args: []string{"sagas", "get", "order-8"}}},
		{"language_get_terminal", setup{args: []string{"sagas", "get", "order-8"}, screen: wide}},
		{"language_get_json", setup{args: []string{"sagas", "get", "order-8", "--json"}}},
		{"language_watch", setup{args: []string{"sagas", "watch", "order-8"}}},
		{"language_records", setup{args: []string{"sagas", "records", "order-8"}}},
		{"language_records_json", setup{args: []string{"sagas", "records", "order-8", "--json"}}},
		{"events", setup{args: []string{"events", "--count", "5"}}},
		{"events_json", setup{args: []string{"events", "--count", "5", "--json"}}},
		{"events_terminal", setup{args: []string{"events", "--count", "5"}, screen: wide}},
		{"publish", setup{args: []string{"publish", "shop.v1.OrderShipped", "--data", `{"order":"orders/1"}`, "--id",
			"7"}}},
		{"publish_json",
			setup{args: []string{"publish", "shop.v1.OrderShipped", "--data", `{"order":"orders/1"}`, "--id", "7",
				"--json"}}},
		{"complete", setup{args: []string{"sagas", "complete", "order-8/r3.4", "--reply", `{"receipt":"rcp-3"}`,
			"--reason", "ticket 4711"}}},
		{"help_events", setup{args: []string{"events", "--help"}}},
		{"help_publish", setup{args: []string{"publish", "--help"}}},
		{"help_complete", setup{args: []string{"sagas", "complete", "--help"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := servertest.New(t)
			f.Sagas, f.Records = []*treatyv1.Saga{using(t)}, journalUsing(t, "sagas/order-8")
			f.Streams, f.Events, f.Woken = usingHistory(t), eventHistory(t), proto.Int32(1)
			c.setup.address = f.Address
			if strings.HasPrefix(c.name, "help") {
				c.setup.address = defaultAddress
			}
			got := run(t, c.setup)
			golden(t, c.name, c.setup, got)
			if strings.Contains(c.name, "json") {
				validJSONLines(t, strings.NewReader(got.stdout))
			}
		})
	}
}

// TestChildIsNamed shows a saga that waits for its child saga.
func TestChildIsNamed(t *testing.T) {
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{parentOf(t, "sagas/p-child")}
	for name, args := range map[string][]string{
		"language_child":       {"sagas", "get", "order-8"},
		"language_child_watch": {"sagas", "watch", "order-8", "--timeout", "2s"},
	} {
		t.Run(name, func(t *testing.T) {
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{f.Sagas[0], succeeded(t)}}}
			s := setup{args: args, address: f.Address}
			golden(t, name, s, run(t, s))
		})
	}
}

// TestLanguageRequests checks the requests that the commands send.
func TestLanguageRequests(t *testing.T) {
	f := servertest.New(t)
	f.Sagas, f.Events = []*treatyv1.Saga{using(t)}, append(eventHistory(t), eventHistory(t)[0])
	do := func(t *testing.T, want int, args ...string) session {
		t.Helper()
		got := run(t, setup{args: args, address: f.Address})
		if got.code != want {
			t.Fatalf("exit %d, want %d: %s", got.code, want, got.stderr)
		}
		return got
	}
	t.Run("events continue after the last one", func(t *testing.T) {
		do(t, 0, "events", "--count", "3", "--type", "shop.v1.OrderShipped", "--subject", "orders/1", "--after", "3")
		got := servertest.Last[*treatyv1.StreamEventsRequest](t, f)
		want := &treatyv1.StreamEventsRequest{AfterPosition: 12, Types: []string{"shop.v1.OrderShipped"},
			Subject: "orders/1"}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("events continue after a stream that wasn't read", func(t *testing.T) {
		f.Events = append([]servertest.EventStage{{
			Events: []*treatyv1.PublishedEvent{shipment(t, 9)}, Err: failure(t, codes.ResourceExhausted,
				"the reader took nothing for 30s", &errdetails.ErrorInfo{Reason: "STREAM_STALLED", Domain: "treaty"}),
		}}, eventHistory(t)...)
		do(t, 0, "events", "--count", "2", "--after", "3")
		if got := servertest.Last[*treatyv1.StreamEventsRequest](t, f); got.GetAfterPosition() != 9 {
			t.Errorf("got %v", got)
		}
		f.Events = eventHistory(t)[:1]
	})
	t.Run("a consumer acknowledges", func(t *testing.T) {
		do(t, 0, "events", "--count", "2", "--consumer", "audit", "--after", "3")
		got := servertest.Last[*treatyv1.AcknowledgeEventsRequest](t, f)
		if got.GetConsumer() != "audit" || got.GetPosition() != 12 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("events for a while", func(t *testing.T) { do(t, 0, "events", "--timeout", "1s") })
	t.Run("publish", func(t *testing.T) {
		do(t, 0, "publish", "shop.v1.OrderShipped", "--data", `{"order":"orders/1"}`, "--source", "warehouse", "--time",
			"2026-01-31T12:00:00Z")
		got := servertest.Last[*treatyv1.PublishEventsRequest](t, f).GetEvents()[0]
		if got.GetId() == "" || got.GetSource() != "warehouse" || got.GetTime().GetSeconds() != 1769860800 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("complete a compensation", func(t *testing.T) {
		do(t, 0, "sagas", "complete", "sagas/order-8/steps/r3.3.1.1", "--compensation", "--reply", "{}", "--reason",
			"discarded by hand")
		got := servertest.Last[*treatyv1.CompleteStepRequest](t, f)
		if got.GetDirection() != treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION ||
			got.GetReply().MessageName() != "shop.v1.Released" || got.GetDecision().GetActor() != "ada" ||
			got.GetDecision().GetReason() != "discarded by hand" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("refuse", func(t *testing.T) {
		do(t, 0, "sagas", "complete", "order-8/r3.4", "--refuse", "failed_precondition", "--message", "no funds",
			"--reason", "ticket 4711")
		got := servertest.Last[*treatyv1.CompleteStepRequest](t, f)
		if got.GetName() != "sagas/order-8/steps/r3.4" ||
			got.GetRefusal().GetCode() != int32(codes.FailedPrecondition) ||
			got.GetRefusal().GetMessage() != "no funds" {
			t.Errorf("got %v", got)
		}
	})
}

// TestUnwrittenEventIsNotAcknowledged checks that an event that couldn't be written isn't acknowledged. No stream would
// send it again.
func TestUnwrittenEventIsNotAcknowledged(t *testing.T) {
	for _, output := range [][]string{nil, {"--json"}} {
		f := servertest.New(t)
		f.Events = eventHistory(t)
		var stderr buffer
		p := process(setup{args: append([]string{"events", "--count", "2", "--consumer", "audit"}, output...),
			address: f.Address}, new(buffer), &stderr)
		p.Stdout = brokenWriter{}
		if code := Run(t.Context(), p); code != problem.ExitFailure ||
			!strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: exit %d, stderr %q", output, code, stderr.String())
		}
		for _, request := range f.Requests() {
			if acknowledged, is := request.(*treatyv1.AcknowledgeEventsRequest); is {
				t.Errorf("%v: acknowledged %v", output, acknowledged)
			}
		}
	}
}

func TestLanguageProblems(t *testing.T) {
	unknown := status.New(codes.NotFound, "no such step: sagas/order-8/steps/9")
	over, err := unknown.WithDetails(&errdetails.ErrorInfo{Domain: "treaty", Reason: "STEP_NOT_FOUND"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		fail error
		code int
		says string
	}{
		"unknown event": {[]string{"publish", "shop.v1.Gone"}, nil, 2, `knows no message "shop.v1.Gone"`},
		"broken event": {[]string{"publish", "shop.v1.OrderShipped", "--data", `{"orders":1}`}, nil, 2,
			"The fields of shop.v1.OrderShipped are order, pickupCode."},
		"no time": {[]string{"publish", "shop.v1.OrderShipped", "--time", "yesterday"}, nil, 2, "RFC 3339"},
		"invalid step": {[]string{"sagas", "complete", "order-8", "--reply", "{}"}, nil, 2,
			"isn't the name of a step"},
		"no such step": {[]string{"sagas", "complete", "order-8/9", "--reply", "{}", "--reason", "why"}, nil, 2,
			"has no step 9"},
		"no compensation": {[]string{"sagas", "complete", "order-8/r3.4", "--compensation", "--reply", "{}", "--reason",
			"why"}, nil, 2, "has no compensation"},
		"no reason": {[]string{"sagas", "complete", "order-8/r3.4", "--reply", "{}"}, nil, 2, "--reason"},
		"neither":   {[]string{"sagas", "complete", "order-8/r3.4"}, nil, 2, "reply"},
		"no code": {[]string{"sagas", "complete", "order-8/r3.4", "--refuse", "NOPE"}, nil, 2,
			"FAILED_PRECONDITION"},
		"a message alone": {[]string{"sagas", "complete", "order-8/r3.4", "--reply", "{}", "--message", "why"}, nil, 2,
			"--refuse"},
		"step doesn't exist": {[]string{"sagas", "complete", "order-8/9", "--refuse", "NOT_FOUND", "--reason",
			"why"}, over.Err(), 1,
			"no such step: sagas/order-8/steps/9"},
		"unreachable": {[]string{"events"}, status.Error(codes.Unavailable, "down"), 1,
			"can't reach an orchestrator"},
		"purged": {[]string{"events", "--after", "1"},
			status.Error(codes.OutOfRange, "begin after position 7"), 1, "begin after position 7"},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas, f.Fail = []*treatyv1.Saga{using(t)}, test.fail
			got := run(t, setup{args: test.args, address: f.Address})
			if got.code != test.code || !strings.Contains(got.stderr, test.says) {
				t.Errorf("exit %d, want %d with %q: %s", got.code, test.code, test.says, got.stderr)
			}
		})
	}
}
