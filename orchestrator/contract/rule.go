package contract

import (
	"slices"
	"strings"
)

// Rule is something that every contract keeps. Rules are listed by Rules and explained in docs/contract-reference.md.
type Rule struct {
	// ID names the rule, e.g. "COMMAND_KIND_MISSING". It never changes.
	ID string

	// Summary is the rule in one line.
	Summary string

	// Doc says why the rule is there.
	Doc string
}

// Rules returns all rules, ordered by ID.
func Rules() []Rule {
	all := []Rule{
		commandKindMissing, commandNameClash, commandStreaming,
		compensationUnknown, compensationSelf, compensationIsCommand, compensationIsSaga, compensationStreaming, compensationUnused, compensationShared,
		compensationActionMissing, compensationFieldAmbiguous, compensationFieldDuplicate, compensationFieldForeign, compensationFieldShape,
		rejectionUnknown, rejectionDuplicate,
		sagaStreaming, sagaServiceMixed,
		durationInvalid, durationTooLong, retryIntervalsReversed, retriableGivesUp,
		outcomeCodeInvalid, outcomeInvalid, outcomeDuplicate,
		requestIDType, requestIDDuplicate, labelType, labelTooMany, fieldRedacted, fieldAnnotationUnused,
		eventKeyMissing, eventKeyDuplicate, eventKeyType, eventKeyUnused, broadcastIsSaga, broadcastPivot,
		optionUnreadable,
	}
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// About commands.
var (
	commandKindMissing = Rule{
		ID:      "COMMAND_KIND_MISSING",
		Summary: "A command has exactly one kind.",
		Doc: "The kind decides what undoes the command and what a saga may do after it, so there is no default. A saga method that is " +
			"also a command needs one too. Two kinds at once are refused by the protobuf compiler, as the kind is a oneof.",
	}
	commandNameClash = Rule{
		ID:      "COMMAND_NAME_CLASH",
		Summary: "The commands of one proto package have different names, also from what is generated for its events and sagas.",
		Doc: "Saga code calls a command through a generated function that is named after the method, and the functions of one proto " +
			"package are in one Go package, together with an interface and a Register function for each service of sagas, and an Await and a " +
			"Next function for each event.",
	}
	commandStreaming = Rule{
		ID:      "COMMAND_STREAMING",
		Summary: "A command takes one request and returns one reply.",
		Doc:     "A step is one request and one reply, stored in the journal. A stream has no such end.",
	}
	rejectionUnknown = Rule{
		ID:      "REJECTION_UNKNOWN",
		Summary: "A rejection is the full name of a message of this file or of one that it imports.",
		Doc:     "Whoever reads the contract must be able to read the detail of a refusal, so its type must be known where the contract is.",
	}
	rejectionDuplicate = Rule{
		ID:      "REJECTION_DUPLICATE",
		Summary: "A command names each rejection once.",
		Doc:     "A second mention says nothing, and is mostly a copy that was not changed.",
	}
)

// About compensations.
var (
	compensationUnknown = Rule{
		ID:      "COMPENSATION_UNKNOWN",
		Summary: "compensated_by names a method of the same service.",
		Doc:     "Who did something undoes it, so the compensation is in the service of its action. It is named without package and service.",
	}
	compensationSelf = Rule{
		ID:      "COMPENSATION_SELF",
		Summary: "A command doesn't compensate itself.",
		Doc:     "A compensation is told what was asked and what happened; the action's own request can't say that.",
	}
	compensationIsCommand = Rule{
		ID:      "COMPENSATION_IS_COMMAND",
		Summary: "A compensation is not itself a command.",
		Doc:     "An undo is never undone, and saga code never asks for one.",
	}
	compensationIsSaga = Rule{
		ID:      "COMPENSATION_IS_SAGA",
		Summary: "A compensation is not a saga.",
		Doc: "A compensation that comes before its action must make sure that the action is refused later. A participant's inbox does " +
			"that, and an orchestrator for its own sagas; saga code can't.",
	}
	compensationStreaming = Rule{
		ID:      "COMPENSATION_STREAMING",
		Summary: "A compensation takes one request and returns one reply.",
		Doc:     "A compensation is one request and one reply, stored in the journal. A stream has no such end.",
	}
	compensationUnused = Rule{
		ID:      "COMPENSATION_UNUSED",
		Summary: "A method with (treaty.v1.compensation) is named by a command of its service.",
		Doc:     "The option tunes a compensation. On a method that no command names it would do nothing.",
	}
	compensationShared = Rule{
		ID:      "COMPENSATION_SHARED",
		Summary: "The compensation of a saga undoes nothing else.",
		Doc: "The orchestrator undoes a child saga by itself, and finds it by the command and by the definition that the compensation stands " +
			"for. Commands of participants may share a compensation, as their code tells them apart.",
	}
	compensationActionMissing = Rule{
		ID:      "COMPENSATION_ACTION_MISSING",
		Summary: "A compensation's request has a field of the action's request type.",
		Doc: "The orchestrator builds the compensation's request from what was asked and, where it is known, what happened. The reply " +
			"is not known when the outcome isn't, so the action's request is what every compensation gets.",
	}
	compensationFieldAmbiguous = Rule{
		ID:      "COMPENSATION_FIELD_AMBIGUOUS",
		Summary: "Where a command's request and reply have one type, the fields of its compensation are named action and reply.",
		Doc:     "The fields are found by their types. When both types are the same, only the names can tell them apart.",
	}
	compensationFieldDuplicate = Rule{
		ID:      "COMPENSATION_FIELD_DUPLICATE",
		Summary: "A compensation's request has one field for the action's request and at most one for its reply.",
		Doc:     "With two fields of one type nobody could tell which one is meant.",
	}
	compensationFieldForeign = Rule{
		ID:      "COMPENSATION_FIELD_FOREIGN",
		Summary: "A compensation's request holds the action's request and reply, and nothing else.",
		Doc:     "A compensation's request is built from the journal, without any code, so nothing could fill another field.",
	}
	compensationFieldShape = Rule{
		ID:      "COMPENSATION_FIELD_SHAPE",
		Summary: "The fields of a compensation's request are plain: not repeated, not in a oneof, not delimited, and the reply not required.",
		Doc: "Both fields are written side by side, as plain messages, and the reply is left out when the outcome of the action isn't " +
			"known.",
	}
)

// About sagas.
var (
	sagaStreaming = Rule{
		ID:      "SAGA_STREAMING",
		Summary: "A saga takes one request and returns one reply.",
		Doc:     "The request and the reply of a saga are stored in its journal. SagaService.WatchSaga streams what a saga does.",
	}
	sagaServiceMixed = Rule{
		ID:      "SAGA_SERVICE_MIXED",
		Summary: "Either all methods of a service are sagas, or undo its sagas, or none is.",
		Doc: "The orchestrator serves a service of sagas as a whole, so nobody would implement its other methods. A method that undoes one of its " +
			"sagas, for a parent, it serves by itself.",
	}
	requestIDType = Rule{
		ID:      "REQUEST_ID_TYPE",
		Summary: "A request id is one string.",
		Doc:     "Two starts with the same request id are the same start. The id is stored and compared as a string.",
	}
	requestIDDuplicate = Rule{
		ID:      "REQUEST_ID_DUPLICATE",
		Summary: "A message has at most one request id.",
		Doc:     "With two, nobody could tell which one makes two starts the same.",
	}
	labelType = Rule{
		ID:      "LABEL_TYPE",
		Summary: "A label is one string, number, bool or enum.",
		Doc:     "Labels are stored and compared as strings, which lists, maps, messages and bytes have no obvious form as.",
	}
	labelTooMany = Rule{
		ID:      "LABEL_TOO_MANY",
		Summary: "A message has at most 16 labels.",
		Doc:     "Every label is indexed for every saga. A saga's whole request is stored anyway.",
	}
	fieldRedacted = Rule{
		ID:      "FIELD_REDACTED",
		Summary: "A request id, label or correlation key is not debug_redact.",
		Doc:     "Request ids, labels and correlation keys are shown in lists and indexed; debug_redact fields never appear anywhere.",
	}
	fieldAnnotationUnused = Rule{
		ID:      "FIELD_ANNOTATION_UNUSED",
		Summary: "(treaty.v1.request_id) and (treaty.v1.label) are on fields of a message that a saga of the same package takes as its request.",
		Doc:     "They are read from the request that starts a saga. Anywhere else, nested messages included, they would do nothing.",
	}
)

// About events.
var (
	eventKeyMissing = Rule{
		ID:      "EVENT_KEY_MISSING",
		Summary: "An event has a correlation key.",
		Doc:     "A saga awaits an event by its type and the value of one field. Without such a field nobody could tell whom it is for.",
	}
	eventKeyDuplicate = Rule{
		ID:      "EVENT_KEY_DUPLICATE",
		Summary: "An event has at most one correlation key.",
		Doc:     "With two, nobody could tell by which one it is awaited.",
	}
	eventKeyType = Rule{
		ID:      "EVENT_KEY_TYPE",
		Summary: "A correlation key is one string, not in a oneof.",
		Doc:     "It is stored, compared and shown as a string, and every event has one. Names of resources are strings.",
	}
	eventKeyUnused = Rule{
		ID:      "EVENT_KEY_UNUSED",
		Summary: "(treaty.v1.correlation_key) is on a field of a message with (treaty.v1.event).",
		Doc:     "It says by what an event is awaited. Anywhere else, nested messages included, it would do nothing.",
	}
)

// About broadcasts.
var (
	broadcastIsSaga = Rule{
		ID:      "BROADCAST_IS_SAGA",
		Summary: "A broadcast is not a saga.",
		Doc:     "A broadcast goes to the participants that serve a command. A saga is run by one orchestrator.",
	}
	broadcastPivot = Rule{
		ID:      "BROADCAST_PIVOT",
		Summary: "A broadcast is not a pivot.",
		Doc:     "A saga has one point of no return. When one participant had passed it and another refused, there would be no way on and none back.",
	}
)

// About times.
var (
	durationInvalid = Rule{
		ID:      "DURATION_INVALID",
		Summary: "A duration is more than 0; a retention is at least 1 min.",
		Doc:     "To get the default, leave the field out. Seconds and nanos must not have different signs, and nanos are less than a second.",
	}
	durationTooLong = Rule{
		ID:      "DURATION_TOO_LONG",
		Summary: "A timeout is at most 1 h, an interval 24 h, give_up_after 365 days, a deadline, a retention and complete_within 3650 days.",
		Doc:     "Longer ones are mostly a wrong unit.",
	}
	retryIntervalsReversed = Rule{
		ID:      "RETRY_INTERVALS_REVERSED",
		Summary: "max_interval is not shorter than initial_interval.",
		Doc:     "Waits grow from the first to the longest. One that is left out has its default: 100 ms and 30 s.",
	}
	retriableGivesUp = Rule{
		ID:      "RETRIABLE_GIVES_UP",
		Summary: "A retriable command has no give_up_after and no complete_within.",
		Doc:     "After the pivot there is no way back, so a retriable command is tried until it is done.",
	}
)

// About outcomes.
var (
	outcomeCodeInvalid = Rule{
		ID:      "OUTCOME_CODE_INVALID",
		Summary: "An outcome's code is the name of a gRPC code other than OK.",
		Doc:     "Names are written as in google.rpc.Code, e.g. UNAVAILABLE. OK always means done.",
	}
	outcomeInvalid = Rule{
		ID:      "OUTCOME_INVALID",
		Summary: "An outcome is set, and is not OUTCOME_DONE.",
		Doc:     "A call that fails has no reply, so it can't count as done. A participant that has nothing to do answers OK.",
	}
	outcomeDuplicate = Rule{
		ID:      "OUTCOME_DUPLICATE",
		Summary: "A gRPC code has at most one outcome.",
		Doc:     "With two, nobody could tell which one is meant.",
	}
)

// About the options themselves.
var optionUnreadable = Rule{
	ID:      "OPTION_UNREADABLE",
	Summary: "The options are those of the real treaty/v1/options.proto.",
	Doc:     "A file of that name that defines other options, an old copy for example, can't be read.",
}
