package access

import "context"

// Action is what a caller wants to do.
type Action string

const (
	// Start starts a saga, or attaches to one by its request id. The resource is a definition.
	Start Action = "start"

	// Read reads sagas, their journals, definitions and participants. The resource is a definition, or empty for a
	// list over all of them.
	Read Action = "read"

	// Cancel cancels a saga. The resource is its definition.
	Cancel Action = "cancel"

	// Resume resumes a saga, or decides about one of its steps. The resource is its definition.
	Resume Action = "resume"

	// Complete completes an accepted command, or sends its heartbeat. The resource is the command's method.
	Complete Action = "complete"

	// Publish publishes an event. The resource is the event's type and its source.
	Publish Action = "publish"

	// Consume reads the stream of events and acknowledges them. The resource is the consumer's name, and the event
	// types.
	Consume Action = "consume"

	// UndoChild starts, undoes and closes child sagas for a parent's orchestrator. The resource is a definition.
	UndoChild Action = "undo-child"

	// Administer purges, and reads what concerns the whole orchestrator.
	Administer Action = "administer"

	// ReadSecrets reads the fields of events that contracts mark as secret; the resource is an event type. It also
	// reads the texts of refusals that contracts don't call safe; the resource is the definition of the saga.
	ReadSecrets Action = "read-secrets"
)

// Actions are all actions, in the order of their documentation.
func Actions() []Action {
	return []Action{Start, Read, Cancel, Resume, Complete, Publish, Consume, UndoChild, Administer, ReadSecrets}
}

// Request is one action of a principal on one resource. Fields that don't concern the action are empty.
type Request struct {
	Principal Principal
	Action    Action

	// Definition is the full name of a saga definition, such as acme.customer.v1.CustomerSagas/Onboard.
	Definition string

	// Saga is the name of a saga, sagas/ID, for the audit log.
	Saga string

	// Method is the full name of a command's method, acme.card.v1.CardService/IssueCard.
	Method string

	// EventType is the full name of an event's message, and Source is who the event says it comes from.
	EventType, Source string

	// Consumer is the name of a consumer of events.
	Consumer string
}

// Authorizer decides who may do what. Its methods are called concurrently, once or more per call and again while a
// stream is open, so they must be fast; one that asks another process should keep its answers for a while.
type Authorizer interface {
	// Authorize returns nil if the request is allowed, and the reason if it isn't, an error which is logged and
	// audited but not told to the caller. An error of the authorizer itself counts as a refusal.
	Authorize(ctx context.Context, request Request) error

	// Changed returns a channel that is closed when earlier answers may no longer hold. A nil channel means never.
	Changed() <-chan struct{}
}
