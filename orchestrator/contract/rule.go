package contract

// rule is a rule that every contract keeps. docs/contract-reference.md has a section for each.
type rule struct {
	// id is the rule's id, e.g. "COMMAND_KIND_MISSING". It never changes.
	id string

	// summary is the rule in one line.
	summary string

	// doc is the reason for the rule.
	doc string
}

// Rules about commands.
var (
	commandKindMissing = rule{
		id:      "COMMAND_KIND_MISSING",
		summary: "A command has exactly one kind.",
		doc: "The kind decides how the command is compensated and what a saga may do after it, so there is no " +
			"default. A saga method that is also a command needs a kind too. The protobuf compiler rejects a " +
			"command with two kinds. Two that are written as options of their own, which protoc accepts, break " +
			"OPTION_UNREADABLE.",
	}
	commandNameClash = rule{
		id:      "COMMAND_NAME_CLASH",
		summary: "The Go names generated for the commands, events and saga services of a proto package are different.",
		doc: "All generated functions of one proto package are in one Go package. A command becomes a function " +
			"with the name of its method, a service of sagas an interface and a Register function, and an " +
			"event an Await and a Next function.",
	}
	commandStreaming = rule{
		id:      "COMMAND_STREAMING",
		summary: "A command takes one request and returns one reply.",
		doc:     "The journal stores one request and one reply for each step, so a command can't stream.",
	}
	rejectionUnknown = rule{
		id:      "REJECTION_UNKNOWN",
		summary: "A rejection is the full name of a message in this file or in a file that it imports.",
		doc:     "Clients read the rejection from the details of a refusal, so its type must be part of the contract.",
	}
	rejectionDuplicate = rule{
		id:      "REJECTION_DUPLICATE",
		summary: "A command names each rejection once.",
		doc:     "A second mention has no effect. It is usually a copy that was not changed.",
	}
)

// Rules about compensations.
var (
	compensationUnknown = rule{
		id:      "COMPENSATION_UNKNOWN",
		summary: "compensated_by names a method of the same service.",
		doc: "The participant that executed a command also compensates it, so both methods belong to one " +
			"service. The method is named without its package and service.",
	}
	compensationSelf = rule{
		id:      "COMPENSATION_SELF",
		summary: "A command doesn't compensate itself.",
		doc: "A compensation's request holds the action's request and reply. The action's own request can't " +
			"hold both.",
	}
	compensationIsCommand = rule{
		id:      "COMPENSATION_IS_COMMAND",
		summary: "A compensation is not a command.",
		doc:     "Compensations are never compensated, and saga code can't send them.",
	}
	compensationIsSaga = rule{
		id:      "COMPENSATION_IS_SAGA",
		summary: "A compensation is not a saga.",
		doc: "A compensation that arrives before its action must make sure that the action is refused later. A " +
			"participant's inbox does that, and so does an orchestrator for its own sagas. Saga code can't.",
	}
	compensationStreaming = rule{
		id:      "COMPENSATION_STREAMING",
		summary: "A compensation takes one request and returns one reply.",
		doc:     "The journal stores one request and one reply for each compensation, so it can't stream.",
	}
	compensationUnused = rule{
		id:      "COMPENSATION_UNUSED",
		summary: "A method with (treaty.v1.compensation) is named by a command of its service.",
		doc: "The option sets the timeout, retries and outcomes of a compensation. It has no effect on any " +
			"other method.",
	}
	compensationShared = rule{
		id:      "COMPENSATION_SHARED",
		summary: "The compensation of a saga compensates nothing else.",
		doc: "The orchestrator compensates a child saga itself. It finds the child by its command id and by " +
			"the saga definition, which the compensation must identify. Commands of participants may share a " +
			"compensation; the participant's code tells them apart.",
	}
	compensationActionMissing = rule{
		id:      "COMPENSATION_ACTION_MISSING",
		summary: "A compensation's request has a field of the action's request type.",
		doc: "The orchestrator builds the compensation's request from the action's request and, if it is " +
			"known, the action's reply. The reply is unknown when the outcome is, so every compensation needs " +
			"the request.",
	}
	compensationFieldAmbiguous = rule{
		id: "COMPENSATION_FIELD_AMBIGUOUS",
		summary: "If a command's request and reply have the same type, the fields of its compensation are named " +
			"action and reply.",
		doc: "Fields are matched by type. If both types are the same, they are matched by name.",
	}
	compensationFieldDuplicate = rule{
		id:      "COMPENSATION_FIELD_DUPLICATE",
		summary: "A compensation's request has one field for the action's request and at most one for its reply.",
		doc:     "With two fields of the same type it would be unclear which one to fill.",
	}
	compensationFieldForeign = rule{
		id:      "COMPENSATION_FIELD_FOREIGN",
		summary: "A compensation's request has fields for the action's request and reply, and no others.",
		doc: "The orchestrator builds the request from the journal alone, without running code, so nothing " +
			"could fill another field.",
	}
	compensationFieldShape = rule{
		id: "COMPENSATION_FIELD_SHAPE",
		summary: "The fields of a compensation's request are not repeated, in a oneof or delimited, and the reply " +
			"is not required.",
		doc: "Both fields are written as plain messages. The reply is left out when the outcome of the action " +
			"is unknown.",
	}
)

// Rules about sagas.
var (
	sagaStreaming = rule{
		id:      "SAGA_STREAMING",
		summary: "A saga takes one request and returns one reply.",
		doc: "The journal stores the request and the reply of a saga. To follow the progress of a saga, stream " +
			"SagaService.WatchSaga.",
	}
	sagaServiceMixed = rule{
		id:      "SAGA_SERVICE_MIXED",
		summary: "A service that has a saga contains only sagas and their compensations.",
		doc: "The orchestrator serves such a service as a whole, so nothing would implement its other methods. " +
			"The orchestrator also implements the compensations of its sagas.",
	}
	requestIDType = rule{
		id:      "REQUEST_ID_TYPE",
		summary: "A request id is a single string.",
		doc:     "Two calls with the same request id start one saga. The id is stored and compared as a string.",
	}
	requestIDDuplicate = rule{
		id:      "REQUEST_ID_DUPLICATE",
		summary: "A message has at most one request id.",
		doc:     "With two it would be unclear which one identifies the call.",
	}
	labelType = rule{
		id:      "LABEL_TYPE",
		summary: "A label is a single string, number, bool or enum.",
		doc: "Labels are stored and compared as strings. Lists, maps, messages and bytes have no obvious " +
			"string form.",
	}
	labelTooMany = rule{
		id:      "LABEL_TOO_MANY",
		summary: "A message has at most 16 labels.",
		doc:     "Every label of every saga is indexed. Fields that aren't labels are still stored with the request.",
	}
	fieldRedacted = rule{
		id:      "FIELD_REDACTED",
		summary: "A request id, label or correlation key is not debug_redact.",
		doc: "Request ids, labels and correlation keys are indexed and shown in lists. Fields with " +
			"debug_redact are never shown.",
	}
	fieldAnnotationUnused = rule{
		id: "FIELD_ANNOTATION_UNUSED",
		summary: "(treaty.v1.request_id) and (treaty.v1.label) are on fields of a message that is the request of a " +
			"saga of the same package.",
		doc: "They are read from the request that starts a saga. On other messages, including nested ones, " +
			"they have no effect.",
	}
)

// Rules about events.
var (
	eventKeyMissing = rule{
		id:      "EVENT_KEY_MISSING",
		summary: "An event has a correlation key.",
		doc: "A saga awaits an event by its type and the value of one field. Without that field, events " +
			"couldn't be matched to sagas.",
	}
	eventKeyDuplicate = rule{
		id:      "EVENT_KEY_DUPLICATE",
		summary: "An event has at most one correlation key.",
		doc:     "With two it would be unclear which one the event is awaited by.",
	}
	eventKeyType = rule{
		id:      "EVENT_KEY_TYPE",
		summary: "A correlation key is a single string that is not in a oneof.",
		doc:     "Every event has a key, which is stored, compared and shown as a string, like the name of a resource.",
	}
	eventKeyUnused = rule{
		id:      "EVENT_KEY_UNUSED",
		summary: "(treaty.v1.correlation_key) is on a field of a message with (treaty.v1.event).",
		doc: "It marks the field that an event is awaited by. On other messages, including nested ones, it has " +
			"no effect.",
	}
)

// Rules about broadcasts.
var (
	broadcastIsSaga = rule{
		id:      "BROADCAST_IS_SAGA",
		summary: "A broadcast is not a saga.",
		doc:     "A broadcast goes to all participants that take part in it. A saga runs in one orchestrator.",
	}
	broadcastPivot = rule{
		id:      "BROADCAST_PIVOT",
		summary: "A broadcast is not a pivot.",
		doc: "A saga has one point of no return. If one participant passed it and another refused, the saga " +
			"could neither continue nor compensate.",
	}
)

// Rules about times.
var (
	durationInvalid = rule{
		id:      "DURATION_INVALID",
		summary: "A duration is positive, and a retention is at least 1 min.",
		doc: "To get the default, leave the field out. Seconds and nanos must have the same sign, and nanos " +
			"must be below a second.",
	}
	durationTooLong = rule{
		id: "DURATION_TOO_LONG",
		summary: "A timeout is at most 1 h, an interval 24 h, give_up_after 365 days, a deadline, a retention and " +
			"complete_within 3650 days.",
		doc: "Longer times are usually a wrong unit.",
	}
	retryIntervalsReversed = rule{
		id:      "RETRY_INTERVALS_REVERSED",
		summary: "max_interval is not shorter than initial_interval.",
		doc: "The wait between attempts grows from initial_interval to max_interval. If one is left out, its " +
			"default counts: 100 ms and 30 s.",
	}
	retriableGivesUp = rule{
		id:      "RETRIABLE_GIVES_UP",
		summary: "A retriable command has no give_up_after and no complete_within.",
		doc:     "A saga can't compensate after its pivot, so a retriable command is retried until it is done.",
	}
)

// Rules about outcomes.
var (
	outcomeCodeInvalid = rule{
		id:      "OUTCOME_CODE_INVALID",
		summary: "The code of an outcome is the name of a gRPC code other than OK.",
		doc:     "Names are written as in google.rpc.Code, e.g. UNAVAILABLE. OK always means done.",
	}
	outcomeInvalid = rule{
		id:      "OUTCOME_INVALID",
		summary: "An outcome is set and is not OUTCOME_DONE.",
		doc: "A call that fails has no reply, so it can't be done. " +
			"A participant that has nothing to do returns OK.",
	}
	outcomeDuplicate = rule{
		id:      "OUTCOME_DUPLICATE",
		summary: "A gRPC code has at most one outcome.",
		doc:     "With two it would be unclear which one counts.",
	}
)

// optionUnreadable is the rule about the options themselves.
var optionUnreadable = rule{
	id:      "OPTION_UNREADABLE",
	summary: "The options are those of the treaty/v1/options.proto of this version, and none replaces another.",
	doc: "Options from a different file of that name, e.g. an old copy, can't be read. Those of a newer version " +
		"may change what a contract means, so they aren't ignored: update Treaty first. Two kinds that are written " +
		"as options of their own, such as `option (treaty.v1.command).pivot = {};`, replace each other unnoticed " +
		"in protoc.",
}
