package contract

// Rules about changes of commands and compensations.
var (
	commandNoDelete = rule{
		id:      "COMMAND_NO_DELETE",
		summary: "A command isn't removed.",
		doc: "Open sagas hold it in their journals and send it again after a restart. Add a new command, and remove " +
			"the old one when no saga uses it.",
	}
	commandSameKind = rule{
		id:      "COMMAND_SAME_KIND",
		summary: "A command keeps its kind, except that a pivot may become compensatable.",
		doc: "Sagas rely on the kind: on what undoes the command, on what may be sent after it, and on whether it " +
			"can be refused. A journal keeps the kind with which a step was scheduled. A pivot that becomes " +
			"compensatable breaks nothing: whatever may follow a pivot may follow it.",
	}
	commandSameTypes = rule{
		id:      "COMMAND_SAME_TYPES",
		summary: "A command, a compensation or a saga keeps the types of its request and reply, and doesn't stream.",
		doc:     "Journals hold requests and replies as bytes, and are read with the types of the contract.",
	}
	commandSameCompensation = rule{
		id:      "COMMAND_SAME_COMPENSATION",
		summary: "A compensatable command keeps its compensation.",
		doc: "A journal keeps the method that undoes a step. If no command names that method any more, the " +
			"orchestrator can't undo the step.",
	}
	compensationNoDelete = rule{
		id:      "COMPENSATION_NO_DELETE",
		summary: "A method that compensates a command isn't removed.",
		doc:     "Open sagas hold it in their journals. Without it, what they did can't be undone.",
	}
	compensationSameFields = rule{
		id:      "COMPENSATION_SAME_FIELDS",
		summary: "The fields of a compensation for the action's request and reply keep their numbers.",
		doc: "A journal keeps the numbers, and the orchestrator builds the request with them. A field for the reply " +
			"may be added.",
	}
	rejectionNoDelete = rule{
		id:      "REJECTION_NO_DELETE",
		summary: "A command keeps its rejections.",
		doc:     "Saga code takes another way because of a rejection. Rejections may be added.",
	}
	commandSameBroadcast = rule{
		id:      "COMMAND_SAME_BROADCAST",
		summary: "A command doesn't become a broadcast, and a broadcast stays one.",
		doc: "A broadcast has one step for each participant. The journals of open sagas have the steps of the " +
			"earlier contract.",
	}
	outcomeNoWeaken = rule{
		id:      "OUTCOME_NO_WEAKEN",
		summary: "A gRPC code that may mean executed isn't declared to mean not executed.",
		doc: "What wasn't executed isn't compensated. Replicas of the earlier version still return the code for " +
			"commands that they may have executed.",
	}
)

// Rules about changes of sagas and their requests.
var (
	sagaNoDelete = rule{
		id:      "SAGA_NO_DELETE",
		summary: "A saga definition isn't removed.",
		doc:     "Its open sagas can't continue, and nobody can attach to them.",
	}
	requestIDSame = rule{
		id:      "REQUEST_ID_SAME",
		summary: "A saga keeps the field of its request id.",
		doc: "A start that is repeated with another id starts a second saga. A request id may be added where there " +
			"was none.",
	}
	labelNoDelete = rule{
		id:      "LABEL_NO_DELETE",
		summary: "A saga keeps its labels.",
		doc:     "Searches and dashboards no longer find new sagas by them. Labels may be added.",
	}
	retentionNoShorten = rule{
		id:      "RETENTION_NO_SHORTEN",
		summary: "A saga's retention doesn't get shorter.",
		doc: "The orchestrator deletes what ended too long ago as soon as it runs with the new contract. Without a " +
			"retention, the orchestrator's setting counts, which by default is forever.",
	}
)

// Rules about changes of events and fields.
var (
	eventNoDelete = rule{
		id:      "EVENT_NO_DELETE",
		summary: "An event isn't removed.",
		doc:     "Sagas that await it wait forever, or until their timeout.",
	}
	eventSameKey = rule{
		id:      "EVENT_SAME_KEY",
		summary: "An event keeps its correlation key.",
		doc: "Open sagas await the value of the earlier field, so no event wakes them. The field may be renamed, " +
			"because its number counts. To use another key, add a new event.",
	}
	redactNoDelete = rule{
		id:      "REDACT_NO_DELETE",
		summary: "A field keeps debug_redact.",
		doc:     "Its values become visible, also in the journals of sagas that have ended.",
	}
)
