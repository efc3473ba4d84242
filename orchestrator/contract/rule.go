package contract

// rule is something that every contract keeps. All are explained in docs/contract-reference.md.
type rule struct {
	// id names the rule, e.g. "COMMAND_KIND_MISSING". It never changes.
	id string

	// summary is the rule in one line.
	summary string

	// doc says why the rule is there.
	doc string
}

// About commands.
var (
	commandKindMissing = rule{
		id:      "COMMAND_KIND_MISSING",
		summary: "A command has exactly one kind.",
		doc: "The kind decides what undoes the command and what a saga may do after it, so there is no default. A saga method that is " +
			"also a command needs one too. Two kinds at once are refused by the protobuf compiler, as the kind is a oneof.",
	}
	commandNameClash = rule{
		id:      "COMMAND_NAME_CLASH",
		summary: "The commands of one proto package have different names, also from what is generated for its events and sagas.",
		doc: "Saga code calls a command through a generated function that is named after the method, and the functions of one proto " +
			"package are in one Go package, together with an interface and a Register function for each service of sagas, and an Await and a " +
			"Next function for each event.",
	}
	commandStreaming = rule{
		id:      "COMMAND_STREAMING",
		summary: "A command takes one request and returns one reply.",
		doc:     "A step is one request and one reply, stored in the journal. A stream has no such end.",
	}
	rejectionUnknown = rule{
		id:      "REJECTION_UNKNOWN",
		summary: "A rejection is the full name of a message of this file or of one that it imports.",
		doc:     "Whoever reads the contract must be able to read the detail of a refusal, so its type must be known where the contract is.",
	}
	rejectionDuplicate = rule{
		id:      "REJECTION_DUPLICATE",
		summary: "A command names each rejection once.",
		doc:     "A second mention says nothing, and is mostly a copy that was not changed.",
	}
)

// About compensations.
var (
	compensationUnknown = rule{
		id:      "COMPENSATION_UNKNOWN",
		summary: "compensated_by names a method of the same service.",
		doc:     "Who did something undoes it, so the compensation is in the service of its action. It is named without package and service.",
	}
	compensationSelf = rule{
		id:      "COMPENSATION_SELF",
		summary: "A command doesn't compensate itself.",
		doc:     "A compensation is told what was asked and what happened; the action's own request can't say that.",
	}
	compensationIsCommand = rule{
		id:      "COMPENSATION_IS_COMMAND",
		summary: "A compensation is not itself a command.",
		doc:     "An undo is never undone, and saga code never asks for one.",
	}
	compensationIsSaga = rule{
		id:      "COMPENSATION_IS_SAGA",
		summary: "A compensation is not a saga.",
		doc: "A compensation that comes before its action must make sure that the action is refused later. A participant's inbox does " +
			"that, and an orchestrator for its own sagas; saga code can't.",
	}
	compensationStreaming = rule{
		id:      "COMPENSATION_STREAMING",
		summary: "A compensation takes one request and returns one reply.",
		doc:     "A compensation is one request and one reply, stored in the journal. A stream has no such end.",
	}
	compensationUnused = rule{
		id:      "COMPENSATION_UNUSED",
		summary: "A method with (treaty.v1.compensation) is named by a command of its service.",
		doc:     "The option tunes a compensation. On a method that no command names it would do nothing.",
	}
	compensationShared = rule{
		id:      "COMPENSATION_SHARED",
		summary: "The compensation of a saga undoes nothing else.",
		doc: "The orchestrator undoes a child saga by itself, and finds it by the command and by the definition that the compensation stands " +
			"for. Commands of participants may share a compensation, as their code tells them apart.",
	}
	compensationActionMissing = rule{
		id:      "COMPENSATION_ACTION_MISSING",
		summary: "A compensation's request has a field of the action's request type.",
		doc: "The orchestrator builds the compensation's request from what was asked and, where it is known, what happened. The reply " +
			"is not known when the outcome isn't, so the action's request is what every compensation gets.",
	}
	compensationFieldAmbiguous = rule{
		id:      "COMPENSATION_FIELD_AMBIGUOUS",
		summary: "Where a command's request and reply have one type, the fields of its compensation are named action and reply.",
		doc:     "The fields are found by their types. When both types are the same, only the names can tell them apart.",
	}
	compensationFieldDuplicate = rule{
		id:      "COMPENSATION_FIELD_DUPLICATE",
		summary: "A compensation's request has one field for the action's request and at most one for its reply.",
		doc:     "With two fields of one type nobody could tell which one is meant.",
	}
	compensationFieldForeign = rule{
		id:      "COMPENSATION_FIELD_FOREIGN",
		summary: "A compensation's request holds the action's request and reply, and nothing else.",
		doc:     "A compensation's request is built from the journal, without any code, so nothing could fill another field.",
	}
	compensationFieldShape = rule{
		id:      "COMPENSATION_FIELD_SHAPE",
		summary: "The fields of a compensation's request are plain: not repeated, not in a oneof, not delimited, and the reply not required.",
		doc: "Both fields are written side by side, as plain messages, and the reply is left out when the outcome of the action isn't " +
			"known.",
	}
)

// About sagas.
var (
	sagaStreaming = rule{
		id:      "SAGA_STREAMING",
		summary: "A saga takes one request and returns one reply.",
		doc:     "The request and the reply of a saga are stored in its journal. SagaService.WatchSaga streams what a saga does.",
	}
	sagaServiceMixed = rule{
		id:      "SAGA_SERVICE_MIXED",
		summary: "Either all methods of a service are sagas, or undo its sagas, or none is.",
		doc: "The orchestrator serves a service of sagas as a whole, so nobody would implement its other methods. A method that undoes one of its " +
			"sagas, for a parent, it serves by itself.",
	}
	requestIDType = rule{
		id:      "REQUEST_ID_TYPE",
		summary: "A request id is one string.",
		doc:     "Two starts with the same request id are the same start. The id is stored and compared as a string.",
	}
	requestIDDuplicate = rule{
		id:      "REQUEST_ID_DUPLICATE",
		summary: "A message has at most one request id.",
		doc:     "With two, nobody could tell which one makes two starts the same.",
	}
	labelType = rule{
		id:      "LABEL_TYPE",
		summary: "A label is one string, number, bool or enum.",
		doc:     "Labels are stored and compared as strings, which lists, maps, messages and bytes have no obvious form as.",
	}
	labelTooMany = rule{
		id:      "LABEL_TOO_MANY",
		summary: "A message has at most 16 labels.",
		doc:     "Every label is indexed for every saga. A saga's whole request is stored anyway.",
	}
	fieldRedacted = rule{
		id:      "FIELD_REDACTED",
		summary: "A request id, label or correlation key is not debug_redact.",
		doc:     "Request ids, labels and correlation keys are shown in lists and indexed; debug_redact fields never appear anywhere.",
	}
	fieldAnnotationUnused = rule{
		id:      "FIELD_ANNOTATION_UNUSED",
		summary: "(treaty.v1.request_id) and (treaty.v1.label) are on fields of a message that a saga of the same package takes as its request.",
		doc:     "They are read from the request that starts a saga. Anywhere else, nested messages included, they would do nothing.",
	}
)

// About events.
var (
	eventKeyMissing = rule{
		id:      "EVENT_KEY_MISSING",
		summary: "An event has a correlation key.",
		doc:     "A saga awaits an event by its type and the value of one field. Without such a field nobody could tell whom it is for.",
	}
	eventKeyDuplicate = rule{
		id:      "EVENT_KEY_DUPLICATE",
		summary: "An event has at most one correlation key.",
		doc:     "With two, nobody could tell by which one it is awaited.",
	}
	eventKeyType = rule{
		id:      "EVENT_KEY_TYPE",
		summary: "A correlation key is one string, not in a oneof.",
		doc:     "It is stored, compared and shown as a string, and every event has one. Names of resources are strings.",
	}
	eventKeyUnused = rule{
		id:      "EVENT_KEY_UNUSED",
		summary: "(treaty.v1.correlation_key) is on a field of a message with (treaty.v1.event).",
		doc:     "It says by what an event is awaited. Anywhere else, nested messages included, it would do nothing.",
	}
)

// About broadcasts.
var (
	broadcastIsSaga = rule{
		id:      "BROADCAST_IS_SAGA",
		summary: "A broadcast is not a saga.",
		doc:     "A broadcast goes to the participants that serve a command. A saga is run by one orchestrator.",
	}
	broadcastPivot = rule{
		id:      "BROADCAST_PIVOT",
		summary: "A broadcast is not a pivot.",
		doc:     "A saga has one point of no return. When one participant had passed it and another refused, there would be no way on and none back.",
	}
)

// About times.
var (
	durationInvalid = rule{
		id:      "DURATION_INVALID",
		summary: "A duration is more than 0; a retention is at least 1 min.",
		doc:     "To get the default, leave the field out. Seconds and nanos must not have different signs, and nanos are less than a second.",
	}
	durationTooLong = rule{
		id:      "DURATION_TOO_LONG",
		summary: "A timeout is at most 1 h, an interval 24 h, give_up_after 365 days, a deadline, a retention and complete_within 3650 days.",
		doc:     "Longer ones are mostly a wrong unit.",
	}
	retryIntervalsReversed = rule{
		id:      "RETRY_INTERVALS_REVERSED",
		summary: "max_interval is not shorter than initial_interval.",
		doc:     "Waits grow from the first to the longest. One that is left out has its default: 100 ms and 30 s.",
	}
	retriableGivesUp = rule{
		id:      "RETRIABLE_GIVES_UP",
		summary: "A retriable command has no give_up_after and no complete_within.",
		doc:     "After the pivot there is no way back, so a retriable command is tried until it is done.",
	}
)

// About outcomes.
var (
	outcomeCodeInvalid = rule{
		id:      "OUTCOME_CODE_INVALID",
		summary: "An outcome's code is the name of a gRPC code other than OK.",
		doc:     "Names are written as in google.rpc.Code, e.g. UNAVAILABLE. OK always means done.",
	}
	outcomeInvalid = rule{
		id:      "OUTCOME_INVALID",
		summary: "An outcome is set, and is not OUTCOME_DONE.",
		doc:     "A call that fails has no reply, so it can't count as done. A participant that has nothing to do answers OK.",
	}
	outcomeDuplicate = rule{
		id:      "OUTCOME_DUPLICATE",
		summary: "A gRPC code has at most one outcome.",
		doc:     "With two, nobody could tell which one is meant.",
	}
)

// About the options themselves.
var optionUnreadable = rule{
	id:      "OPTION_UNREADABLE",
	summary: "The options are those of the real treaty/v1/options.proto.",
	doc:     "A file of that name that defines other options, an old copy for example, can't be read.",
}
