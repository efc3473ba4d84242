package contract

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Rule is a rule as the tests and the reference page see it.
type Rule struct{ ID, Summary, Doc string }

// Rules holds all rules, ordered by ID.
var Rules = func() []Rule {
	var all []Rule
	for _, r := range []rule{
		commandKindMissing, commandNameClash, commandStreaming,
		compensationUnknown, compensationSelf, compensationIsCommand, compensationIsSaga, compensationStreaming,
		compensationUnused, compensationShared,
		compensationActionMissing, compensationFieldAmbiguous, compensationFieldDuplicate, compensationFieldForeign,
		compensationFieldShape,
		rejectionUnknown, rejectionDuplicate,
		sagaStreaming, sagaServiceMixed,
		durationInvalid, durationTooLong, retryIntervalsReversed, retriableGivesUp,
		outcomeCodeInvalid, outcomeInvalid, outcomeDuplicate,
		requestIDType, requestIDDuplicate, labelType, labelTooMany, fieldRedacted, fieldAnnotationUnused,
		eventKeyMissing, eventKeyDuplicate, eventKeyType, eventKeyUnused, broadcastIsSaga, broadcastPivot,
		optionUnreadable,
	} {
		all = append(all, Rule{ID: r.id, Summary: r.summary, Doc: r.doc})
	}
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return all
}()

// The limits and texts that tests compare with.
const (
	MaxCompleteWithin = maxCompleteWithin
	RedactedText      = redactedText
)

// Compiled returns a linked file as its compiler wrote it. LoadCompiled is Load with another such function.
var (
	Compiled     = compiled
	LoadCompiled = load
)

// RedactWith is Redact with types that aren't linked.
func RedactWith(types *dynamicpb.Types, m proto.Message) { redactor{types: types}.redact(m) }
