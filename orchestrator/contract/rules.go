package contract

import (
	"slices"
	"strings"
)

// Rule describes a rule for people.
type Rule struct {
	// ID is the rule's id, as in [Violation.Rule].
	ID string

	// Summary is the rule in one line.
	Summary string

	// Doc is the reason for the rule.
	Doc string
}

// Rules returns the rules that [Check] checks, ordered by id.
func Rules() []Rule { return described(checkRules) }

var checkRules = []rule{
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
}

func described(rules []rule) []Rule {
	all := make([]Rule, len(rules))
	for i, r := range rules {
		all[i] = Rule{ID: r.id, Summary: r.summary, Doc: r.doc}
	}
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return all
}
