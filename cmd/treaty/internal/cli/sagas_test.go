package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	placeOrder = "shop.v1.OrderSagas/PlaceOrder"
	reserve    = "shop.v1.PaymentService/Reserve"
	release    = "shop.v1.PaymentService/Release"
	capturing  = "shop.v1.PaymentService/Capture"
)

const (
	orderJSON = `{"requestId":"r-1","customer":"c-7","card":{"holder":"Ada","number":"4111-secret"},
		"items":[{"sku":"tea","count":2,"giftNote":"secret note"}],
		"extra":{"@type":"type.googleapis.com/shop.v1.Card","holder":"Bob","number":"5500-secret"}}`
	reserveJSON = `{"card":{"holder":"Ada","number":"4111-secret"},"cents":"1250"}`
)

// began is the time at which every saga of the tests starts.
var began = servertest.Began

// at returns the time that long after began.
func at(after time.Duration) *timestamppb.Timestamp { return timestamppb.New(began.Add(after)) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// newSaga returns a saga with the fields that all of them have.
func newSaga(t testing.TB, id string, state treatyv1.SagaState) *treatyv1.Saga {
	return &treatyv1.Saga{
		Name: "sagas/" + id, Definition: placeOrder, State: state,
		Request: servertest.ShopAny(t, "shop.v1.PlaceOrderRequest", orderJSON),
		Labels:  map[string]string{"customer": "c-7"}, RequestId: "r-1", TraceId: "4bf92f3577b34da6a3ce929d0e0e4736",
		CreateTime: at(0), UpdateTime: at(ms(500)),
	}
}

func reserveStep(t testing.TB, id string, state treatyv1.StepState) *treatyv1.Step {
	return &treatyv1.Step{
		Name: "sagas/" + id + "/steps/1", Method: reserve, CompensationMethod: release,
		Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, State: state,
		Request:      servertest.ShopAny(t, "shop.v1.ReserveRequest", reserveJSON),
		Reply:        servertest.ShopAny(t, "shop.v1.Reserved", `{"reservation":"res-9"}`),
		ScheduleTime: at(ms(1)), EndTime: at(ms(31)),
	}
}

func captureStep(t testing.TB, id string, state treatyv1.StepState) *treatyv1.Step {
	return &treatyv1.Step{
		Name: "sagas/" + id +
			"/steps/2", Method: capturing, Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT, State: state,
		Request: servertest.ShopAny(t, "shop.v1.ReserveRequest", reserveJSON), ScheduleTime: at(ms(32)),
	}
}

func declined(t testing.TB) *treatyv1.Failure {
	return &treatyv1.Failure{
		Code: int32(codes.FailedPrecondition), Message: "the card was declined",
		Details: []*anypb.Any{servertest.ShopAny(t, "shop.v1.CardDeclined",
			`{"why":"limit","card":{"holder":"Ada","number":"4111-secret"}}`)},
	}
}

func succeeded(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "order-1", treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	saga.Reply = servertest.ShopAny(t, "shop.v1.OrderPlaced", `{"order":"orders/1"}`)
	saga.EndTime = at(ms(500))
	second := captureStep(t, "order-1", treatyv1.StepState_STEP_STATE_DONE)
	second.Reply = servertest.ShopAny(t, "shop.v1.Captured", `{"receipt":"rcp-3"}`)
	second.EndTime = at(ms(490))
	second.Attempts = &treatyv1.Attempts{Count: 3}
	saga.Steps = []*treatyv1.Step{reserveStep(t, "order-1", treatyv1.StepState_STEP_STATE_DONE), second}
	return saga
}

func compensated(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "order-2", treatyv1.SagaState_SAGA_STATE_COMPENSATED)
	saga.Failure, saga.Cause = declined(t), treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED
	saga.EndTime, saga.UpdateTime = at(ms(2010)), at(ms(2010))
	first := reserveStep(t, "order-2", treatyv1.StepState_STEP_STATE_COMPENSATED)
	first.CompensationScheduleTime, first.CompensationEndTime = at(ms(2000)), at(ms(2009))
	second := captureStep(t, "order-2", treatyv1.StepState_STEP_STATE_REFUSED)
	second.Failure, second.EndTime = declined(t), at(ms(2000))
	saga.Steps = []*treatyv1.Step{first, second}
	return saga
}

// doubtful returns a saga with a step that was refused, but may have run before.
func doubtful(t testing.TB) *treatyv1.Saga {
	saga := compensated(t)
	saga.Name = "sagas/doubt-1"
	first := reserveStep(t, "doubt-1", treatyv1.StepState_STEP_STATE_COMPENSATED)
	first.Reply, first.Failure, first.MayHaveRun = nil, declined(t), true
	first.CompensationScheduleTime, first.CompensationEndTime = at(ms(2000)), at(ms(2009))
	saga.Steps = []*treatyv1.Step{first}
	return saga
}

func running(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "order-3", treatyv1.SagaState_SAGA_STATE_RUNNING)
	saga.Deadline = at(time.Hour)
	second := captureStep(t, "order-3", treatyv1.StepState_STEP_STATE_SCHEDULED)
	second.Attempts = &treatyv1.Attempts{
		Count: 4, LastOutcome: "unknown", NextTime: at(93 * time.Second),
		LastFailure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "connection \x1b[31mreset\nby peer"},
	}
	saga.Steps = []*treatyv1.Step{reserveStep(t, "order-3", treatyv1.StepState_STEP_STATE_DONE), second}
	saga.PossibleDecisions = []treatyv1.DecisionKind{treatyv1.DecisionKind_DECISION_KIND_COMPLETE}
	return saga
}

func parked(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "order-7", treatyv1.SagaState_SAGA_STATE_COMPENSATING)
	saga.Cause = treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED
	first := reserveStep(t, "order-7", treatyv1.StepState_STEP_STATE_COMPENSATING)
	first.CompensationScheduleTime = at(ms(40))
	first.Attempts = &treatyv1.Attempts{Count: 2, Parked: true}
	saga.Steps = []*treatyv1.Step{first}
	saga.PossibleDecisions = []treatyv1.DecisionKind{treatyv1.DecisionKind_DECISION_KIND_COMPLETE}
	return saga
}

// suspended returns a saga that is suspended for a reason.
func suspended(t testing.TB, id string, reason treatyv1.SuspensionReason) *treatyv1.Saga {
	saga := newSaga(t, id, treatyv1.SagaState_SAGA_STATE_SUSPENDED)
	saga.Suspension, saga.Etag = &treatyv1.SagaSuspended{Reason: reason}, "seen-"+id
	saga.Steps = []*treatyv1.Step{reserveStep(t, id, treatyv1.StepState_STEP_STATE_DONE)}
	switch reason {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		saga.Steps[0].State = treatyv1.StepState_STEP_STATE_COMPENSATING
		saga.Steps[0].CompensationScheduleTime = at(ms(40))
		saga.Suspension.Step, saga.Suspension.Failure = "1", &treatyv1.Failure{Code: int32(codes.NotFound),
			Message: "no such reservation"}
		saga.Suspension.Message = "the participant refused to undo step 1\nfix it there, or decide by hand"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH:
		saga.Suspension.Step = "1"
		saga.Suspension.Message = "step 1 isn't what the journal holds"
		saga.Suspension.Expected, saga.Suspension.Found = reserve, capturing
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN:
		second := captureStep(t, id, treatyv1.StepState_STEP_STATE_UNKNOWN)
		second.Failure, second.EndTime = &treatyv1.Failure{Code: int32(codes.DeadlineExceeded)}, at(ms(900))
		saga.Steps = append(saga.Steps, second)
		saga.Suspension.Step, saga.Suspension.Failure = "2", second.Failure
	case treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		second := captureStep(t, id, treatyv1.StepState_STEP_STATE_DONE)
		second.EndTime = at(ms(900))
		saga.Steps = append(saga.Steps, second)
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING:
		saga.Steps = append(saga.Steps, captureStep(t, id, treatyv1.StepState_STEP_STATE_SCHEDULED))
		saga.Suspension.Step = "2"
		saga.Suspension.Message = "gave up waiting for step 2, which the participant has accepted and hasn't completed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		second := captureStep(t, id, treatyv1.StepState_STEP_STATE_SCHEDULED)
		second.Kind = treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
		saga.Steps = append(saga.Steps, second)
		saga.Suspension.Step, saga.Suspension.Failure = "2", declined(t)
		saga.Suspension.Message = "step 2 was refused, but an earlier attempt may have been executed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST:
		saga.Steps[0] = unended(reserveStep(t, id, treatyv1.StepState_STEP_STATE_SCHEDULED))
		saga.Suspension.Step = "1"
		saga.Suspension.Message = "the participant of step 1 knows another request under its command id"
		saga.Suspension.Expected, saga.Suspension.Found = reserve, reserve+" "+strings.Repeat("ab", 32)
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		saga.Steps[0] = unended(reserveStep(t, id, treatyv1.StepState_STEP_STATE_SCHEDULED))
		saga.Suspension.Step = "1"
		saga.Suspension.Message = "the participant of step 1 no longer knows what became of it"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		saga.Suspension.Message = "the saga's store was restored from a backup: step 1 (" + reserve +
			") was compensated since the backup, but now the saga doesn't fail as it did then"
		saga.Suspension.Found = "compensation 1 (" + release + ")"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED:
		saga.Suspension.Message = "the saga's store was restored from a backup: it may have sent commands to " +
			"shop.v1.MailService since the backup, which can't say what was executed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		saga.ParentStep = "sagas/parent/steps/1"
		saga.Suspension.Message = "the saga's store was restored from a backup: it fails now, but its parent at " +
			"another orchestrator may have received its reply"
		saga.Suspension.Failure = &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "sold out"}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE:
		saga.Suspension.Message = "the saga's store was restored from a backup: " +
			"its deadline fell into the time that was lost"
		saga.Suspension.Found = "action 2 (" + capturing + ")\naction 3 (" + reserve + ")"
	}
	saga.PossibleDecisions = decisionsAbout(saga)
	return saga
}

// decisionsAbout returns what the orchestrator offers for a suspended saga.
func decisionsAbout(saga *treatyv1.Saga) []treatyv1.DecisionKind {
	const (
		retry   = treatyv1.DecisionKind_DECISION_KIND_RETRY
		edited  = treatyv1.DecisionKind_DECISION_KIND_RETRY_EDITED
		done    = treatyv1.DecisionKind_DECISION_KIND_MARK_DONE
		refused = treatyv1.DecisionKind_DECISION_KIND_MARK_REFUSED
		over    = treatyv1.DecisionKind_DECISION_KIND_TAKE_OVER
		cancel  = treatyv1.DecisionKind_DECISION_KIND_CANCEL
	)
	compensating := saga.GetSteps()[0].GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING
	switch reason := saga.GetSuspension().GetReason(); {
	case reason == treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return []treatyv1.DecisionKind{edited, done}
	case compensating:
		return []treatyv1.DecisionKind{retry, edited, done}
	case reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		reason == treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN,
		reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		return []treatyv1.DecisionKind{retry, done, refused}
	case reason == treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST:
		return []treatyv1.DecisionKind{retry, over, done, refused}
	case reason == treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		return []treatyv1.DecisionKind{retry}
	case reason == treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		return []treatyv1.DecisionKind{cancel, retry}
	default:
		return []treatyv1.DecisionKind{retry, cancel}
	}
}

// mismatchAfterPivot returns a saga whose code doesn't match its journal, and that can't be cancelled.
func mismatchAfterPivot(t testing.TB) *treatyv1.Saga {
	saga := suspended(t, "stuck-6", treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH)
	saga.PossibleDecisions = []treatyv1.DecisionKind{treatyv1.DecisionKind_DECISION_KIND_RETRY}
	return saga
}

// parent returns a saga whose child waits for an operator.
func parent(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "parent-1", treatyv1.SagaState_SAGA_STATE_RUNNING)
	step := unended(reserveStep(t, "parent-1", treatyv1.StepState_STEP_STATE_SCHEDULED))
	step.Attempts, step.Child = &treatyv1.Attempts{Count: 1, Accepted: true}, "sagas/child-1"
	step.ChildSuspension = treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC
	saga.Steps = []*treatyv1.Step{step}
	saga.PossibleDecisions = []treatyv1.DecisionKind{treatyv1.DecisionKind_DECISION_KIND_CANCEL}
	return saga
}

// unended removes from a step what is known only once its action has ended.
func unended(step *treatyv1.Step) *treatyv1.Step {
	step.EndTime, step.Reply = nil, nil
	return step
}

// undoing returns a suspended saga whose step 1 is being compensated.
func undoing(saga *treatyv1.Saga) *treatyv1.Saga {
	saga.Steps[0].State = treatyv1.StepState_STEP_STATE_COMPENSATING
	saga.Steps[0].EndTime, saga.Steps[0].CompensationScheduleTime = at(ms(31)), at(ms(40))
	saga.PossibleDecisions = decisionsAbout(saga)
	return saga
}

// standing returns a running saga of an orchestrator whose store was replaced.
func standing(t testing.TB) *treatyv1.Saga {
	saga := running(t)
	saga.Name, saga.NotDriven = "sagas/standing-1", replaced()
	saga.PossibleDecisions = nil
	saga.Steps = []*treatyv1.Step{unended(reserveStep(t, "standing-1", treatyv1.StepState_STEP_STATE_SCHEDULED))}
	saga.Steps[0].Attempts = &treatyv1.Attempts{Count: 1, LastFailure: &treatyv1.Failure{
		Code: int32(codes.Aborted), Message: "epoch 8 has replaced epoch 7",
	}}
	return saga
}

// replaced says that a store was replaced.
func replaced() *treatyv1.NotDriven {
	return &treatyv1.NotDriven{
		Reason: treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED,
		Message: "another store has taken over: the participant shop.v1.PaymentService knows a later epoch: epoch 8 " +
			"has replaced epoch 7",
		Advice: "find out which of the two stores is right",
	}
}

// standingHistory is what a watcher receives of a saga that isn't driven for a while.
func standingHistory(t *testing.T) []servertest.Stage {
	before, after := standing(t), standing(t)
	before.NotDriven, after.NotDriven = nil, nil
	end := standing(t)
	end.NotDriven, end.State, end.EndTime = nil, treatyv1.SagaState_SAGA_STATE_SUCCEEDED, at(ms(600))
	return []servertest.Stage{{Sagas: []*treatyv1.Saga{before, standing(t), after, end}}}
}

// lost returns lost sagas.
func lost() []*treatyv1.LostSaga {
	action, undo := treatyv1.StepDirection_STEP_DIRECTION_ACTION, treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	const payment = "shop.v1.PaymentService"
	return []*treatyv1.LostSaga{
		{Name: "sagas/gone-1", CreateTime: at(0), FindTime: at(time.Minute),
			Start: treatyv1.LostSagaStart_LOST_SAGA_START_REQUEST_ID, Commands: []*treatyv1.LostCommand{
				{Name: "sagas/gone-1/steps/1", Direction: action, Method: reserve, Participant: payment,
					Verdict: "executed", RequestDigest: strings.Repeat("ab", 32)},
				{Name: "sagas/gone-1/steps/2", Direction: action, Method: capturing, Participant: payment,
					Verdict: "refused"},
			}},
		{Name: "sagas/gone-2", FindTime: at(time.Minute), Definition: placeOrder,
			ParentStep: "sagas/parent/steps/4", Start: treatyv1.LostSagaStart_LOST_SAGA_START_PARENT,
			Commands: []*treatyv1.LostCommand{
				{Name: "sagas/gone-2/steps/1", Direction: undo, Method: release, Participant: payment,
					Verdict: "null_compensated"},
				{Name: "sagas/parent/steps/4", Direction: action, Method: placeOrder, Participant: "mall/0",
					Verdict: "executed"},
			}},
		{Name: "sagas/gone-3", CreateTime: at(ms(500)), FindTime: at(time.Minute),
			Start: treatyv1.LostSagaStart_LOST_SAGA_START_WITHOUT_ID},
	}
}

// foreign returns a saga with unknown types.
func foreign(t testing.TB) *treatyv1.Saga {
	saga := newSaga(t, "foreign-1", treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	saga.Definition = "other.v1.Sagas/Do"
	saga.Request = &anypb.Any{TypeUrl: "type.googleapis.com/other.v1.Request", Value: []byte("4111-secret")}
	saga.Reply = &anypb.Any{TypeUrl: "type.googleapis.com/shop.v1.OrderPlaced", Value: []byte("\xff\xff4111-secret")}
	saga.EndTime = at(ms(500))
	return saga
}

// journalOf is a journal with a record of every kind.
func journalOf(t testing.TB, saga string) []*treatyv1.SagaRecord {
	why := &treatyv1.Decision{Actor: "ada", Reason: "released by hand"}
	records := []*treatyv1.Record{
		{Kind: &treatyv1.Record_SagaStarted{SagaStarted: &treatyv1.SagaStarted{Definition: placeOrder,
			Request: servertest.ShopBytes(t, "shop.v1.PlaceOrderRequest", orderJSON), RequestId: "r-1"}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
			Step: "1", Method: reserve, Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			Request:      servertest.ShopBytes(t, "shop.v1.ReserveRequest", reserveJSON),
			Compensation: &treatyv1.CompensationPlan{Method: release, ActionField: 1, ReplyField: 2},
		}}},
		{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: "1", Attempts: 1,
			Reply: servertest.ShopBytes(t, "shop.v1.Reserved", `{"reservation":"res-9"}`)}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{Step: "2", Method: capturing,
			Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT, Request: servertest.ShopBytes(t, "shop.v1.ReserveRequest",
				reserveJSON)}}},
		{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{Step: "2", Attempts: 2,
			Failure: declined(t)}}},
		{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: &treatyv1.CompensationDecided{
			Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: declined(t),
		}}},
		{Kind: &treatyv1.Record_CompensationScheduled{
			CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1"},
		}},
		{Kind: &treatyv1.Record_SagaSuspended{SagaSuspended: &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, Step: "1", Message: "refused",
		}}},
		{Kind: &treatyv1.Record_SagaResumed{SagaResumed: &treatyv1.SagaResumed{Decision: why}}},
		{Kind: &treatyv1.Record_CompensationScheduled{CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1",
			EditedRequest: servertest.ShopBytes(t, "shop.v1.ReleaseRequest", `{"action":`+reserveJSON+`}`)}}},
		{Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{Step: "1", Attempts: 1,
			Decision: why}}},
		{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}},
		// These can't follow here. They complete the set of record kinds.
		{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{Step: "1", Attempts: 2,
			Failure: declined(t), MayHaveRun: true}}},
		{Kind: &treatyv1.Record_SagaRestored{SagaRestored: &treatyv1.SagaRestored{BackupTime: at(0),
			RestoreTime: at(ms(900)), Contradiction: "the participant doesn't know step 1", Compensated: true,
			Commands: []*treatyv1.RestoredCommand{{Step: "2"}, {Step: "1", Compensation: true}}}}},
		{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: "2", Decision: why, RequestDigest: "ab12",
			Reply: servertest.ShopBytes(t, "shop.v1.Captured", `{"receipt":"rcp-3"}`)}}},
		{Kind: &treatyv1.Record_StepUnknown{StepUnknown: &treatyv1.StepUnknown{Step: "2", Attempts: 9,
			Failure: &treatyv1.Failure{Code: int32(codes.Unavailable)}}}},
		{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{Reply: servertest.ShopBytes(t,
			"shop.v1.OrderPlaced", `{"order":"orders/1"}`)}}},
		{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{Step: "3",
			Method: "other.v1.Service/Do", Request: []byte("4111-secret")}}},
		{},
	}
	var out []*treatyv1.SagaRecord
	for i, record := range records {
		out = append(out,
			&treatyv1.SagaRecord{Name: fmt.Sprintf("%s/records/%d-1", saga, i+1), Time: at(ms(10 * i)), Record: record})
	}
	return out
}

// participants returns one participant of each kind.
func participants() []*treatyv1.Participant {
	const file = "shop/v1/payment_service.proto"
	return []*treatyv1.Participant{
		{Name: "shop.v1.StockService", Target: "stock:7101", Services: []string{"shop.v1.StockService"},
			Reachable: true, Contracts: treatyv1.ContractsState_CONTRACTS_STATE_VERIFIED,
			Differences: []*treatyv1.ContractDifference{
				{Methods: []string{"shop.v1.StockService/Pick"}, File: "shop/v1/stock_service.proto",
					Message: "shop.v1.PickRequest", Field: "note", Description: "field 4 is new"},
			}},
		{Name: "shop.v1.PaymentService", Target: "payment:7101", Services: []string{"shop.v1.PaymentService"},
			Reachable: true, Contracts: treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED,
			Differences: []*treatyv1.ContractDifference{
				{Methods: []string{release, reserve}, Breaking: true, File: file, Message: "shop.v1.ReserveRequest",
					Field: "amount", Description: "was int32, is sint32"},
				{Methods: []string{capturing}, Breaking: true, File: file, Description: "the method was removed"},
			},
			ParkedMethods: []*treatyv1.ParkedMethod{
				{Method: capturing, Reason: capturing + " (" + file + "): the method was removed"},
				{Method: reserve, Reason: "shop.v1.ReserveRequest.amount (" + file + "): was int32, is sint32"},
			}},
		{Name: "shop.v1.MailService", Target: "mail:7101", Services: []string{"shop.v1.MailService"}, Reachable: true,
			Contracts:        treatyv1.ContractsState_CONTRACTS_STATE_UNVERIFIED,
			ContractsProblem: "it has no server reflection"},
		{Name: "shop.v1.TaxService", Target: "tax:7101", Services: []string{"shop.v1.TaxService"},
			Problem: "it refused the connection", Contracts: treatyv1.ContractsState_CONTRACTS_STATE_UNKNOWN},
		{Name: "shop.v1.RollingService", Target: "rolling:7101", Services: []string{"shop.v1.RollingService"},
			Reachable: true, Contracts: treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED,
			Differences: []*treatyv1.ContractDifference{
				{
					Methods: []string{"shop.v1.RollingService/Roll"}, Breaking: true,
					File: "shop/v1/rolling_service.proto", Message: "shop.v1.Size", Field: "SIZE_LARGE",
					Description: "value 2 was removed",
				},
			}},
	}
}
