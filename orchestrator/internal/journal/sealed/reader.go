package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var _ journal.Reader = (*Reader)(nil)

// scanPage is how many rows are read at a time to find those that a filter selects.
const scanPage = 256

// Reader is a journal.Reader that opens what the reader inside it keeps. What it doesn't override holds no payload.
type Reader struct {
	journal.Reader

	keys *Keys
}

// NewReader returns a reader of what a store has sealed.
func NewReader(inside journal.Reader, keys *Keys) *Reader { return &Reader{inside, keys} }

// open opens data. what says what it is, for an error. The errors are *journal.KeyError and journal.ErrCorrupt.
func (r *Reader) open(data, additional []byte, what string) ([]byte, error) {
	keys := r.keys.ring()
	opened, err := keys.open(data, additional)
	if errors.Is(err, journal.ErrKey) {
		if now, changed := r.keys.refreshed(keys); changed {
			opened, err = now.open(data, additional)
		}
	}
	if missing, is := errors.AsType[*journal.KeyError](err); is {
		missing.What = what
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return opened, nil
}

func (r *Reader) openTurns(saga string, turns []journal.Turn) error {
	for i := range turns {
		turn := &turns[i]
		if !isSealed(turn.Data) {
			continue
		}
		var err error
		what := fmt.Sprintf("turn %d of saga %s", turn.Number, saga)
		if turn.Data, err = r.open(turn.Data, turnPlace(saga, turn.Number), what); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) openJournal(stored *journal.Journal) error {
	err := r.openLabels(&stored.Row)
	if err == nil {
		err = r.openTurns(stored.Row.ID, stored.Turns)
	}
	if missing, is := errors.AsType[*journal.KeyError](err); is && len(stored.Turns) > 0 {
		row := stored.Row
		missing.Row, missing.Turn = &row, stored.Turns[len(stored.Turns)-1].Number
	}
	return err
}

func (r *Reader) openEvent(event *journal.Event) (err error) {
	event.Overhead = 0
	what := fmt.Sprintf("event %s of %s", event.ID, event.Source)
	event.Data, err = r.open(event.Data, eventPlace(event), what)
	return err
}

// Load implements journal.Reader.
func (r *Reader) Load(ctx context.Context, id string) (*journal.Journal, error) {
	stored, err := r.Reader.Load(ctx, id)
	if err == nil {
		err = r.openJournal(stored)
	}
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// Open implements journal.Reader.
func (r *Reader) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	page, err := r.Reader.Open(ctx, params)
	for _, stored := range page {
		if stored.Err != nil {
			_ = r.openLabels(&stored.Row) // the other error is more important
			continue
		}
		if stored.Err = r.openJournal(stored); stored.Err != nil {
			stored.Turns = nil
		}
	}
	return page, err
}

// Get implements journal.Reader.
func (r *Reader) Get(ctx context.Context, id string) (*journal.Row, error) {
	row, err := r.Reader.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	err = r.openLabels(row)
	if errors.Is(err, journal.ErrKey) {
		row.Err = err
		return row, nil
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

// List implements journal.Reader. A filter that compares a label otherwise than with Equal and NotEqual makes it read
// all rows that the other conditions select.
func (r *Reader) List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("list sagas: %w", err)
	}
	if params.Filter == nil || !comparesLabels(params.Filter) {
		return r.listed(r.Reader.List(ctx, params))
	}
	inside, exact := r.keys.ring().translate(params.Filter)
	page := params
	if page.Filter = inside; inside != nil && inside.Validate() != nil {
		page.Filter, exact = nil, false // it has become too large
	}
	if exact {
		return r.listed(r.Reader.List(ctx, page))
	}
	return r.scan(ctx, page, params)
}

// scan returns the first rows that the filter of params selects, of those that page selects.
func (r *Reader) scan(ctx context.Context, page, params journal.ListParams) ([]*journal.Row, error) {
	var selected []*journal.Row
	page.Limit = max(params.Limit, scanPage)
	for {
		rows, err := r.listed(r.Reader.List(ctx, page))
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.Err != nil || !params.Filter.Match(row) {
				continue // of a row that can't be read, it isn't known whether the filter selects it
			}
			if selected = append(selected, row); len(selected) == params.Limit {
				return selected, nil
			}
		}
		if len(rows) < page.Limit {
			return selected, nil
		}
		page.After = rows[len(rows)-1]
	}
}

// listed opens the labels of rows that were read, and sets the Err of those that can't be read.
func (r *Reader) listed(rows []*journal.Row, err error) ([]*journal.Row, error) {
	for _, row := range rows {
		if err := r.openLabels(row); err != nil && row.Err == nil {
			row.Err = err
		}
	}
	return rows, err
}

// Turns implements journal.Reader.
func (r *Reader) Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error) {
	turns, err := r.Reader.Turns(ctx, id, after, limit)
	if err == nil {
		err = r.openTurns(id, turns)
	}
	if err != nil {
		return nil, err
	}
	return turns, nil
}

// Children implements journal.Reader.
func (r *Reader) Children(ctx context.Context, params journal.ChildrenParams) ([]*journal.Row, error) {
	return r.listed(r.Reader.Children(ctx, params))
}

// NextEvent implements journal.Reader.
func (r *Reader) NextEvent(
	ctx context.Context, saga string, awaits []journal.Await,
) (event *journal.Event, index int, err error) {
	event, index, err = r.Reader.NextEvent(ctx, saga, awaits)
	if err == nil && event != nil {
		err = r.openEvent(event)
	}
	if err != nil {
		return nil, 0, err
	}
	return event, index, nil
}

// Events implements journal.Reader.
func (r *Reader) Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error) {
	var events []*journal.Event
	for {
		page, err := r.Reader.Events(ctx, params)
		if err != nil {
			return nil, err
		}
		more := params.Full(page) // the page inside may have ended earlier, since what is sealed is larger
		for _, event := range page {
			if err := r.openEvent(event); err != nil {
				return nil, err
			}
			params.MaxBytes -= event.Size()
		}
		events = append(events, page...)
		params.Limit -= len(page)
		if !more || params.Limit <= 0 || params.MaxBytes <= 0 {
			return events, nil
		}
		params.After = page[len(page)-1].Position
	}
}

// CheckPlain returns an ErrKey if the newest saga or event of a store is sealed, so that the store must not be used
// without keys.
func CheckPlain(ctx context.Context, store journal.Reader) error {
	newest := journal.ListParams{
		Order: journal.Order{By: journal.OrderByCreateTime, Descending: true}, Limit: 1,
	}
	rows, err := store.List(ctx, newest)
	if err != nil {
		return err
	}
	for _, row := range rows {
		turns, err := store.Turns(ctx, row.ID, 0, 1)
		if err != nil {
			return err
		}
		if len(turns) > 0 && isSealed(turns[0].Data) {
			return fmt.Errorf("saga %s is sealed: %w", row.ID, journal.ErrKey)
		}
	}
	_, last, err := store.EventRange(ctx)
	if err != nil || last == 0 {
		return err
	}
	events, err := store.Events(ctx, journal.EventsParams{After: last - 1, Limit: 1})
	if err != nil {
		return err
	}
	for _, event := range events {
		if isSealed(event.Data) {
			return fmt.Errorf("event %s of %s is sealed: %w", event.ID, event.Source, journal.ErrKey)
		}
	}
	return nil
}
