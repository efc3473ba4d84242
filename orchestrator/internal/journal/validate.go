package journal

import (
	"fmt"
	"slices"
	"unicode/utf8"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Validate returns an ErrInvalid if no store can write the entry. It doesn't check the rest of the group.
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
		return fmt.Errorf("%w: an entry has no saga", ErrInvalid)
	case !utf8.ValidString(e.Saga):
		return fmt.Errorf("%w: the saga id %q isn't UTF-8", ErrInvalid, e.Saga)
	case e.Turn == 0:
		return fmt.Errorf("%w: turn 0 of saga %q: turns are counted from 1", ErrInvalid, e.Saga)
	case e.Turn > MaxTurns:
		return fmt.Errorf("%w: turn %d of saga %q: the limit is %d turns", ErrInvalid, e.Turn, e.Saga, MaxTurns)
	case e.Overhead < 0 || e.Overhead > MaxOverhead:
		return fmt.Errorf("%w: turn %d of saga %q has an overhead of %d bytes: the limit is %d",
			ErrInvalid, e.Turn, e.Saga, e.Overhead, MaxOverhead)
	case len(e.Data)-e.Overhead > MaxTurnBytes:
		return fmt.Errorf("%w: turn %d of saga %q has %d bytes: the limit is %d",
			ErrInvalid, e.Turn, e.Saga, len(e.Data), MaxTurnBytes)
	case e.NewRound && (e.Turn == 1 || e.Row == nil):
		return fmt.Errorf("%w: turn %d of saga %q starts a new round: it needs a row, and a number greater than 1",
			ErrInvalid, e.Turn, e.Saga)
	case e.Row != nil:
		return e.validateRow()
	case e.Turn == 1:
		return fmt.Errorf("%w: turn 1 of saga %q has no row", ErrInvalid, e.Saga)
	}
	return nil
}

// onlyEvents returns whether the entry only publishes events.
func (e *Entry) onlyEvents() bool {
	return len(e.Events) > 0 && e.Saga == "" && e.Turn == 0 && len(e.Data) == 0 && e.Row == nil && !e.NewRound
}

func (e *Event) validate() error {
	switch {
	case e == nil:
		return fmt.Errorf("%w: an event is nil", ErrInvalid)
	case e.Source == "" || e.ID == "" || e.Type == "":
		return fmt.Errorf("%w: an event has the source %q, the id %q and the type %q: none may be empty",
			ErrInvalid, e.Source, e.ID, e.Type)
	case !areUTF8(e.Source, e.ID, e.Type, e.Subject):
		return fmt.Errorf("%w: an event has the source %q, id %q, type %q and subject %q: all must be UTF-8",
			ErrInvalid, e.Source, e.ID, e.Type, e.Subject)
	case e.StoreTime.IsZero():
		return fmt.Errorf("%w: event %q of %q has no store time", ErrInvalid, e.ID, e.Source)
	case e.Overhead < 0 || e.Overhead > MaxOverhead:
		return fmt.Errorf("%w: event %q of %q has an overhead of %d bytes: the limit is %d",
			ErrInvalid, e.ID, e.Source, e.Overhead, MaxOverhead)
	case len(e.Data)-e.Overhead > MaxEventBytes:
		return fmt.Errorf("%w: event %q of %q has %d bytes: the limit is %d",
			ErrInvalid, e.ID, e.Source, len(e.Data), MaxEventBytes)
	}
	return nil
}

func areUTF8(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(text string) bool { return !utf8.ValidString(text) })
}

func (e *Entry) validateAwaits() error {
	switch awaits := e.Row.Awaits; {
	case len(awaits) > MaxAwaits:
		return fmt.Errorf("%w: saga %q awaits %d events: the limit is %d", ErrInvalid, e.Saga, len(awaits), MaxAwaits)
	case len(awaits) > 0 && Final(e.Row.State):
		return fmt.Errorf("%w: saga %q has ended, but awaits events", ErrInvalid, e.Saga)
	case len(awaits) > 0 && e.Row.UpdateTime.IsZero():
		return fmt.Errorf("%w: saga %q awaits events, but its row has no update time", ErrInvalid, e.Saga)
	}
	for _, await := range e.Row.Awaits {
		switch {
		case await.Type == "" || await.Subject == "":
			return fmt.Errorf("%w: saga %q awaits an event without a type or subject", ErrInvalid, e.Saga)
		case !areUTF8(await.Type, await.Subject):
			return fmt.Errorf("%w: saga %q awaits an event whose type or subject isn't UTF-8", ErrInvalid, e.Saga)
		}
	}
	return nil
}

func (e *Entry) validateRow() error {
	row := e.Row
	if row.ID != e.Saga {
		return fmt.Errorf("%w: turn %d of saga %q has the row of saga %q", ErrInvalid, e.Turn, e.Saga, row.ID)
	}
	_, known := treatyv1.SagaState_name[int32(row.State)]
	if !known || row.State == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
		return fmt.Errorf("%w: turn %d of saga %q has the state %v", ErrInvalid, e.Turn, e.Saga, row.State)
	}
	if row.Suspension != 0 && row.State != treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		return fmt.Errorf("%w: turn %d of saga %q has the state %v and a reason to be suspended, %v",
			ErrInvalid, e.Turn, e.Saga, row.State, row.Suspension)
	}
	if err := e.validateAwaits(); err != nil {
		return err
	}
	if e.Turn > 1 {
		return nil
	}
	if !utf8.ValidString(row.Definition) {
		return fmt.Errorf("%w: the definition %q of saga %q isn't UTF-8", ErrInvalid, row.Definition, e.Saga)
	}
	if row.Parent.Saga == "" && row.Parent != (Parent{}) || !areUTF8(row.Parent.Scope, row.Parent.Saga) {
		return fmt.Errorf("%w: saga %q has the parent %+v", ErrInvalid, e.Saga, row.Parent)
	}
	if !utf8.ValidString(row.LocalParent) || row.LocalParent == e.Saga ||
		row.LocalParent != "" && row.Parent != (Parent{}) {
		return fmt.Errorf("%w: saga %q has the local parent %q and the parent %+v", ErrInvalid, e.Saga, row.LocalParent,
			row.Parent)
	}
	if !utf8.ValidString(row.RequestID) {
		return fmt.Errorf("%w: the request id %q of saga %q isn't UTF-8", ErrInvalid, row.RequestID, e.Saga)
	}
	for label, value := range row.Labels {
		if !areUTF8(label, value) {
			return fmt.Errorf("%w: label %q of saga %q isn't UTF-8", ErrInvalid, label, e.Saga)
		}
	}
	return nil
}

// ValidateLimit returns an ErrInvalid if the limit of a page isn't positive.
func ValidateLimit(limit int) error {
	if limit <= 0 {
		return fmt.Errorf("%w: the limit is %d: it must be positive", ErrInvalid, limit)
	}
	return nil
}

// Validate returns an ErrInvalid if the parameters are invalid.
func (p *OpenParams) Validate() error {
	if p.Which != Driven && p.Which != Unended {
		return fmt.Errorf("%w: unknown selection of sagas %d", ErrInvalid, p.Which)
	}
	return ValidateLimit(p.Limit)
}

// ValidateConsumer returns an ErrInvalid if a consumer has no name, or a text that isn't UTF-8.
func ValidateConsumer(c Consumer) error {
	switch {
	case c.Name == "" || !utf8.ValidString(c.Name):
		return fmt.Errorf("%w: a consumer has the name %q: it must be UTF-8 and not empty", ErrInvalid, c.Name)
	case !utf8.ValidString(c.Filter):
		return fmt.Errorf("%w: the consumer %q has the filter %q: it must be UTF-8", ErrInvalid, c.Name, c.Filter)
	case !utf8.ValidString(c.Owner):
		return fmt.Errorf("%w: the consumer %q has the owner %q: it must be UTF-8", ErrInvalid, c.Name, c.Owner)
	}
	return nil
}

// Validate returns an ErrInvalid if the parameters are invalid.
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

// Validate returns an ErrInvalid if the filter is invalid.
func (f *Filter) Validate() error {
	nodes := 0
	return f.validate(&nodes)
}

func (f *Filter) validate(nodes *int) error {
	if f == nil {
		return fmt.Errorf("%w: a node of the filter is nil", ErrInvalid)
	}
	if *nodes++; *nodes > MaxFilterNodes {
		return fmt.Errorf("%w: the filter has more than %d conditions", ErrInvalid, MaxFilterNodes)
	}
	switch f.Op {
	case And, Or:
		if len(f.Args) < 2 {
			return fmt.Errorf("%w: an And or Or has %d conditions: it needs two or more", ErrInvalid, len(f.Args))
		}
	case Not:
		if len(f.Args) != 1 {
			return fmt.Errorf("%w: a Not has %d conditions: it needs one", ErrInvalid, len(f.Args))
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
			return fmt.Errorf("%w: a state can only be compared with Equal and NotEqual", ErrInvalid)
		}
		if _, ok := f.State(); !ok {
			return fmt.Errorf("%w: unknown state %q", ErrInvalid, f.Text)
		}
		return nil
	case FieldSuspension:
		if f.Op != Equal && f.Op != NotEqual {
			return fmt.Errorf("%w: a reason can only be compared with Equal and NotEqual", ErrInvalid)
		}
		if _, ok := f.Suspension(); !ok {
			return fmt.Errorf("%w: unknown reason %q", ErrInvalid, f.Text)
		}
		return nil
	default:
		return fmt.Errorf("%w: unknown filter field %d", ErrInvalid, f.Field)
	}
}
