package journal

import (
	"errors"
	"fmt"
	"unicode/utf8"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Causes of a store's errors that lie with the caller.
var (
	// ErrInvalid says that a call asked for what no store can do, such as a first turn without a row. Nothing was written.
	ErrInvalid = errors.New("invalid request to the store")

	// ErrClosed says that the store was closed before the call. Nothing was written.
	ErrClosed = errors.New("the store is closed")
)

// Limits that every store shares, so that a saga may move from one to another.
const (
	// MaxTurns is how many turns one saga may have.
	MaxTurns = 1<<24 - 1

	// MaxTurnBytes is how long the data of one turn may be.
	MaxTurnBytes = 32 << 20

	// MaxEventBytes is how long the data of one event may be.
	MaxEventBytes = MaxTurnBytes

	// MaxAwaits is how many events one saga may wait for.
	MaxAwaits = 1000

	// MaxFilterNodes is how many nodes a filter may have.
	MaxFilterNodes = 250
)

// Final says whether a saga in this state has ended.
func Final(state treatyv1.SagaState) bool {
	return state == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || state == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}

// Validate says what of an entry no store can write; the error is an ErrInvalid. It doesn't look at the rest of the group.
func (e *Entry) Validate() error {
	for _, event := range e.Events {
		if err := event.validate(); err != nil {
			return err
		}
	}
	switch {
	case e.onlyEvents():
		return nil
	case e.Saga == "":
		return fmt.Errorf("%w: an entry without a saga", ErrInvalid)
	case !utf8.ValidString(e.Saga):
		return fmt.Errorf("%w: the saga id %q is not UTF-8", ErrInvalid, e.Saga)
	case e.Turn == 0:
		return fmt.Errorf("%w: turn 0 of saga %q; turns are counted from 1", ErrInvalid, e.Saga)
	case e.Turn > MaxTurns:
		return fmt.Errorf("%w: turn %d of saga %q; a saga may have %d turns", ErrInvalid, e.Turn, e.Saga, MaxTurns)
	case len(e.Data) > MaxTurnBytes:
		return fmt.Errorf("%w: turn %d of saga %q has %d bytes; %d are allowed", ErrInvalid, e.Turn, e.Saga, len(e.Data), MaxTurnBytes)
	case e.First && (e.Turn == 1 || e.Row == nil):
		return fmt.Errorf("%w: turn %d of saga %q opens its journal anew; that takes a row, and a turn behind the first", ErrInvalid, e.Turn, e.Saga)
	case e.Row != nil:
		return e.validateRow()
	case e.Turn == 1:
		return fmt.Errorf("%w: turn 1 of saga %q has no row", ErrInvalid, e.Saga)
	}
	return nil
}

// onlyEvents says that an entry publishes events and has nothing of a saga.
func (e *Entry) onlyEvents() bool {
	return len(e.Events) > 0 && e.Saga == "" && e.Turn == 0 && len(e.Data) == 0 && e.Row == nil && !e.First
}

func (e *Event) validate() error {
	switch {
	case e == nil:
		return fmt.Errorf("%w: an event that is nil", ErrInvalid)
	case e.Source == "" || e.ID == "" || e.Type == "":
		return fmt.Errorf("%w: event %q of %q has the type %q; none of them may be empty", ErrInvalid, e.ID, e.Source, e.Type)
	case !utf8.ValidString(e.Source) || !utf8.ValidString(e.ID) || !utf8.ValidString(e.Type) || !utf8.ValidString(e.Subject):
		return fmt.Errorf("%w: event %q of %q has a type %q or a subject that is not UTF-8", ErrInvalid, e.ID, e.Source, e.Type)
	case e.StoreTime.IsZero():
		return fmt.Errorf("%w: event %q of %q without the time at which it is published", ErrInvalid, e.ID, e.Source)
	case len(e.Data) > MaxEventBytes:
		return fmt.Errorf("%w: event %q of %q has %d bytes; %d are allowed", ErrInvalid, e.ID, e.Source, len(e.Data), MaxEventBytes)
	}
	return nil
}

func (e *Entry) validateAwaits() error {
	switch awaits := e.Row.Awaits; {
	case len(awaits) > MaxAwaits:
		return fmt.Errorf("%w: saga %q awaits %d events; %d are allowed", ErrInvalid, e.Saga, len(awaits), MaxAwaits)
	case len(awaits) > 0 && Final(e.Row.State):
		return fmt.Errorf("%w: saga %q has ended and awaits events", ErrInvalid, e.Saga)
	case len(awaits) > 0 && e.Row.UpdateTime.IsZero():
		return fmt.Errorf("%w: saga %q awaits events, and its row has no time at which it is written", ErrInvalid, e.Saga)
	}
	for _, await := range e.Row.Awaits {
		switch {
		case await.Type == "" || await.Subject == "":
			return fmt.Errorf("%w: saga %q awaits an event without type or subject", ErrInvalid, e.Saga)
		case !utf8.ValidString(await.Type) || !utf8.ValidString(await.Subject):
			return fmt.Errorf("%w: saga %q awaits an event whose type or subject is not UTF-8", ErrInvalid, e.Saga)
		}
	}
	return nil
}

func (e *Entry) validateRow() error {
	row := e.Row
	if row.ID != e.Saga {
		return fmt.Errorf("%w: turn %d of saga %q has the row of saga %q", ErrInvalid, e.Turn, e.Saga, row.ID)
	}
	if _, ok := treatyv1.SagaState_name[int32(row.State)]; !ok || row.State == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
		return fmt.Errorf("%w: turn %d of saga %q has the state %v", ErrInvalid, e.Turn, e.Saga, row.State)
	}
	if err := e.validateAwaits(); err != nil {
		return err
	}
	if e.Turn > 1 {
		return nil
	}
	if !utf8.ValidString(row.Definition) {
		return fmt.Errorf("%w: the definition %q of saga %q is not UTF-8", ErrInvalid, row.Definition, e.Saga)
	}
	for label, value := range row.Labels {
		if !utf8.ValidString(label) || !utf8.ValidString(value) {
			return fmt.Errorf("%w: label %q of saga %q is not UTF-8", ErrInvalid, label, e.Saga)
		}
	}
	return nil
}

// ValidateLimit says that a page has no size; the error is an ErrInvalid.
func ValidateLimit(limit int) error {
	if limit <= 0 {
		return fmt.Errorf("%w: a page of %d; ask for one or more", ErrInvalid, limit)
	}
	return nil
}

// Validate says what of the request no store can answer; the error is an ErrInvalid.
func (p *OpenParams) Validate() error {
	if p.Which != Driven && p.Which != Unended {
		return fmt.Errorf("%w: unknown choice of sagas %d", ErrInvalid, p.Which)
	}
	return ValidateLimit(p.Limit)
}

// ValidateConsumer says that a consumer has no name, or is no text; the error is an ErrInvalid.
func ValidateConsumer(c Consumer) error {
	switch {
	case c.Name == "" || !utf8.ValidString(c.Name):
		return fmt.Errorf("%w: the name of a consumer %q; it is UTF-8 and not empty", ErrInvalid, c.Name)
	case !utf8.ValidString(c.Filter):
		return fmt.Errorf("%w: the filter of the consumer %q, %q; it is UTF-8", ErrInvalid, c.Name, c.Filter)
	}
	return nil
}

// Validate says what of the request no store can answer; the error is an ErrInvalid.
func (p *ListParams) Validate() error {
	if err := ValidateLimit(p.Limit); err != nil {
		return err
	}
	if p.Order.By != OrderByCreateTime && p.Order.By != OrderByUpdateTime {
		return fmt.Errorf("%w: unknown order %d", ErrInvalid, p.Order.By)
	}
	if p.Filter == nil {
		return nil
	}
	return p.Filter.Validate()
}

// Validate says what of a filter no store can answer; the error is an ErrInvalid.
func (f *Filter) Validate() error {
	nodes := 0
	return f.validate(&nodes)
}

func (f *Filter) validate(nodes *int) error {
	if f == nil {
		return fmt.Errorf("%w: a filter with an empty node", ErrInvalid)
	}
	if *nodes++; *nodes > MaxFilterNodes {
		return fmt.Errorf("%w: a filter with more than %d conditions", ErrInvalid, MaxFilterNodes)
	}
	switch f.Op {
	case And, Or:
		if len(f.Args) < 2 {
			return fmt.Errorf("%w: and, or with %d conditions; they combine two or more", ErrInvalid, len(f.Args))
		}
	case Not:
		if len(f.Args) != 1 {
			return fmt.Errorf("%w: not with %d conditions; it takes one", ErrInvalid, len(f.Args))
		}
	case Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual:
		return f.validateLeaf()
	default:
		return fmt.Errorf("%w: unknown filter operation %d", ErrInvalid, f.Op)
	}
	for _, arg := range f.Args {
		if err := arg.validate(nodes); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) validateLeaf() error {
	switch f.Field {
	case FieldID, FieldDefinition, FieldCreateTime, FieldUpdateTime, FieldLabel:
		return nil
	case FieldState:
		if f.Op != Equal && f.Op != NotEqual {
			return fmt.Errorf("%w: a state can be equal or not equal, nothing else", ErrInvalid)
		}
		if _, ok := f.State(); !ok {
			return fmt.Errorf("%w: unknown state %q", ErrInvalid, f.Text)
		}
		return nil
	default:
		return fmt.Errorf("%w: unknown filter field %d", ErrInvalid, f.Field)
	}
}

// State returns the state that Text names, and whether there is one of that name.
func (f *Filter) State() (treatyv1.SagaState, bool) {
	state, ok := treatyv1.SagaState_value["SAGA_STATE_"+f.Text]
	return treatyv1.SagaState(state), ok
}
