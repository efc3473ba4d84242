package render

import (
	"encoding/json"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Changes returns a line for each difference between two versions of a saga, with the time, the resource and its new
// state. If before is nil, everything is new.
func (v *View) Changes(before, now *treatyv1.Saga) string {
	m := moments{}
	known := map[string]*treatyv1.Step{}
	for _, step := range before.GetSteps() {
		known[step.GetName()] = step
	}
	var out []line
	add := func(at *timestamppb.Timestamp, what, state, more string) {
		l := line{{m.exact(at), plain}, {"  " + what + "  " + state, plain}}
		if more != "" {
			l = append(l, span{"  " + more, plain})
		}
		out = append(out, l)
	}
	final := resource.IsFinal(now.GetState())
	if before.GetState() != now.GetState() && !final {
		more := now.GetDefinition()
		switch {
		case now.GetSuspension() != nil:
			more = SuspensionText(now.GetSuspension().GetReason()) + ": " + now.GetSuspension().GetMessage()
		case now.GetFailure() != nil:
			more = FailureText(now.GetFailure())
		}
		at := now.GetUpdateTime()
		if before == nil && now.GetState() == treatyv1.SagaState_SAGA_STATE_RUNNING {
			at = now.GetCreateTime()
		}
		add(at, now.GetName(), resource.StateName(now.GetState()), more)
	}
	for _, step := range now.GetSteps() {
		if old := known[step.GetName()]; old != nil && old.GetState() == step.GetState() {
			continue
		}
		at, method, more := stepChange(step)
		add(at, step.GetName(), resource.StepStateName(step.GetState()), joinNonEmpty(method, more))
	}
	v.codeChanges(before, now, add)
	if reason := notDrivenName(now.GetNotDriven()); reason != notDrivenName(before.GetNotDriven()) && !final {
		if reason == "" {
			add(now.GetUpdateTime(), now.GetName(), "driven again", "")
		} else {
			add(now.GetUpdateTime(), now.GetName(), "not driven: "+reason, now.GetNotDriven().GetMessage())
		}
	}
	if before.GetState() != now.GetState() && final {
		more := Duration(now.GetEndTime().AsTime().Sub(now.GetCreateTime().AsTime()))
		if now.GetFailure() != nil {
			more += "  " + FailureText(now.GetFailure())
		}
		add(now.GetEndTime(), now.GetName(), resource.StateName(now.GetState()), more)
	}
	return v.render(out)
}

// addChange adds a line.
type addChange func(at *timestamppb.Timestamp, what, state, more string)

// codeChanges adds the changes of what the saga's code reports and waits for: its round, progress, scopes and waits.
func (v *View) codeChanges(before, now *treatyv1.Saga, add addChange) {
	if round := now.GetRound(); before != nil && round > before.GetRound() && round > 1 {
		add(now.GetUpdateTime(), now.GetName(), "round "+strconv.Itoa(int(round)), "")
	}
	if progress := now.GetProgress(); progress != nil && !proto.Equal(progress, before.GetProgress()) {
		shown, ok := v.encoder.EncodeAny(progress)
		if !ok {
			shown = json.RawMessage(schema.TypeName(progress.GetTypeUrl()))
		}
		add(now.GetUpdateTime(), now.GetName(), "progress", string(shown))
	}
	for _, scope := range now.GetScopes() {
		isSame := func(old *treatyv1.Scope) bool { return old.GetScope() == scope.GetScope() }
		if !slices.ContainsFunc(before.GetScopes(), isSame) {
			why := scopeCauseText(scope.GetCause())
			if scope.GetFailure() != nil {
				why = FailureText(scope.GetFailure())
			}
			add(scope.GetDecideTime(), now.GetName(), "scope "+scope.GetScope()+" is compensated", why)
		}
	}
	for _, wait := range now.GetWaits() {
		isSame := func(old *treatyv1.Wait) bool { return old.GetWait() == wait.GetWait() }
		if !slices.ContainsFunc(before.GetWaits(), isSame) {
			add(wait.GetScheduleTime(), now.GetName(), "waits", moments{}.waiting(wait))
		}
	}
}

// stepChange returns when a step entered its state, the method that was called, and more about it.
func stepChange(step *treatyv1.Step) (at *timestamppb.Timestamp, method, more string) {
	m := moments{}
	decided := ""
	if step.GetDecision() != nil && step.GetCompensationDecision() == nil {
		decided = decisionText(step.GetDecision())
	}
	switch step.GetState() {
	case treatyv1.StepState_STEP_STATE_DONE:
		if decided != "" {
			return step.GetEndTime(), "by hand", decided // the method may not have been executed
		}
		return step.GetEndTime(), step.GetMethod(), m.between(step.GetScheduleTime(), step.GetEndTime())
	case treatyv1.StepState_STEP_STATE_REFUSED, treatyv1.StepState_STEP_STATE_UNKNOWN:
		if decided != "" {
			return step.GetEndTime(), "by hand", joinNonEmpty(FailureText(step.GetFailure()), decided)
		}
		return step.GetEndTime(), step.GetMethod(), FailureText(step.GetFailure())
	case treatyv1.StepState_STEP_STATE_COMPENSATING:
		return step.GetCompensationScheduleTime(), step.GetCompensationMethod(), ""
	case treatyv1.StepState_STEP_STATE_COMPENSATED:
		if step.GetCompensationDecision() != nil {
			return step.GetCompensationEndTime(), "by hand", decisionText(step.GetCompensationDecision())
		}
		took := m.between(step.GetCompensationScheduleTime(), step.GetCompensationEndTime())
		return step.GetCompensationEndTime(), step.GetCompensationMethod(), took
	default:
		return step.GetScheduleTime(), step.GetMethod(), step.GetChild()
	}
}
