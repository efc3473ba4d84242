package server

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// A participant writes the text of a refusal, and may write anything into it. A contract says with safe_refusals that
// it may be shown. Where an authorizer decides, other texts are shown only to those who may read secrets. The caller of
// a saga's own method receives the text in any case, as it receives the reply.

// hidesTexts returns whether the caller may not read the texts of refusals in sagas of a definition.
func (s *Server) hidesTexts(ctx context.Context, definition string) bool {
	if !s.guarded() {
		return false
	}
	q := question{server: s, ctx: ctx, method: treatyv1.SagaService_GetSaga_FullMethodName}
	return q.refusal(access.Request{Action: access.ReadSecrets, Definition: definition}) != nil
}

// texts hides the texts of refusals in what is shown of one saga.
type texts struct {
	catalog *contract.Catalog

	// methods are the methods of the steps, by path, and the methods that compensate them.
	methods, compensations map[string]string

	// refused says that there was a refusal, and unsafe that one of them had a text that isn't shown.
	refused, unsafe bool

	// hidden are the texts that aren't shown.
	hidden []string
}

func newTexts(catalog *contract.Catalog) *texts {
	return &texts{catalog: catalog, methods: make(map[string]string), compensations: make(map[string]string)}
}

// safe returns whether the texts of a method's refusals may be shown.
func (t *texts) safe(method string) bool {
	call, known := t.catalog.CallConfig(method)
	return known && call.SafeRefusals
}

// refusal hides the text of a refusal by a method, unless it is safe.
func (t *texts) refusal(method string, failure *treatyv1.Failure) {
	t.refused = true
	if !t.safe(method) {
		t.unsafe = true
		t.hide(failure)
	}
}

// end hides the text of the error that a saga or a scope ends with. Saga code makes it of refusals, or of what it
// knows. Other causes have texts of the orchestrator.
func (t *texts) end(cause treatyv1.CompensationCause, failure *treatyv1.Failure) {
	if cause == treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED && (t.unsafe || !t.refused) {
		t.hide(failure)
	}
}

// suspension hides the text of a refusal that has suspended a saga, also where it says what the code did with it.
func (t *texts) suspension(suspended *treatyv1.SagaSuspended) {
	step := wire.StepPath(suspended.GetStep())
	method := t.methods[step]
	if suspended.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED {
		method = t.compensations[step]
	}
	if !t.safe(method) {
		t.hide(suspended.GetFailure())
	}
	for _, text := range t.hidden {
		suspended.Message = strings.ReplaceAll(suspended.GetMessage(), text, contract.RedactedText)
		suspended.Expected = strings.ReplaceAll(suspended.GetExpected(), text, contract.RedactedText)
		suspended.Found = strings.ReplaceAll(suspended.GetFound(), text, contract.RedactedText)
	}
}

// hide hides the text of a failure, and the details that no contract declares as a rejection: those may have texts,
// too. Declared ones have their own marks.
func (t *texts) hide(failure *treatyv1.Failure) {
	if failure.GetMessage() != "" {
		t.hidden = append(t.hidden, failure.GetMessage())
		failure.Message = contract.RedactedText
	}
	if failure == nil {
		return
	}
	failure.Details = slices.DeleteFunc(failure.GetDetails(), func(detail *anypb.Any) bool {
		return !t.catalog.IsRejection(detail.MessageName())
	})
}

// saga hides the texts in a saga, in place.
func (t *texts) saga(saga *treatyv1.Saga) {
	for _, step := range saga.GetSteps() {
		path := wire.StepPath(step.GetName())
		t.methods[path], t.compensations[path] = step.GetMethod(), step.GetCompensationMethod()
		if step.GetState() == treatyv1.StepState_STEP_STATE_REFUSED {
			t.refusal(step.GetMethod(), step.GetFailure())
		}
	}
	t.end(saga.GetCause(), saga.GetFailure())
	for _, scope := range saga.GetScopes() {
		t.end(scope.GetCause(), scope.GetFailure())
	}
	if suspension := saga.GetSuspension(); suspension != nil {
		t.suspension(suspension)
	}
}

// record hides the texts in a record, in place. It must see the records in order, from the first one.
func (t *texts) record(record *treatyv1.Record) {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_StepScheduled:
		step := kind.StepScheduled
		t.methods[step.GetStep()] = step.GetMethod()
		t.compensations[step.GetStep()] = step.GetCompensation().GetMethod()
	case *treatyv1.Record_StepRefused:
		t.refusal(t.methods[kind.StepRefused.GetStep()], kind.StepRefused.GetFailure())
	case *treatyv1.Record_CompensationDecided:
		t.end(kind.CompensationDecided.GetCause(), kind.CompensationDecided.GetFailure())
	case *treatyv1.Record_ScopeCompensationDecided:
		t.end(kind.ScopeCompensationDecided.GetCause(), kind.ScopeCompensationDecided.GetFailure())
	case *treatyv1.Record_SagaSuspended:
		t.suspension(kind.SagaSuspended)
	}
}

// recordTexts hides the texts in the records of one saga, if the caller may not read them.
type recordTexts struct {
	server *Server
	texts  *texts // nil until the first record says whose saga it is, and if all texts are shown
}

// hide hides the texts in a record, in place. It must see the records in order.
func (r *recordTexts) hide(ctx context.Context, record *treatyv1.Record) {
	if started := record.GetSagaStarted(); started != nil && r.server.hidesTexts(ctx, started.GetDefinition()) {
		r.texts = newTexts(r.server.catalog)
	}
	if r.texts != nil {
		r.texts.record(record)
	}
}

// shownTo is shown for the caller of a call.
func (s *Server) shownTo(ctx context.Context, saga *treatyv1.Saga) *treatyv1.Saga {
	copied := s.shown(saga)
	if s.hidesTexts(ctx, saga.GetDefinition()) {
		newTexts(s.catalog).saga(copied)
	}
	return copied
}
