package journaltest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// leaf and the functions below return nodes of filters.
func leaf(op journal.FilterOp, field journal.FilterField, text string) *journal.Filter {
	return &journal.Filter{Op: op, Field: field, Text: text}
}

func timeLeaf(op journal.FilterOp, field journal.FilterField, at time.Time) *journal.Filter {
	return &journal.Filter{Op: op, Field: field, Time: at}
}

func labelLeaf(op journal.FilterOp, label, text string) *journal.Filter {
	return &journal.Filter{Op: op, Field: journal.FieldLabel, Label: label, Text: text}
}

func node(op journal.FilterOp, args ...*journal.Filter) *journal.Filter {
	return &journal.Filter{Op: op, Args: args}
}

var comparisons = []journal.FilterOp{
	journal.Equal, journal.NotEqual, journal.Less, journal.LessOrEqual, journal.Greater, journal.GreaterOrEqual,
}

// population writes sagas in every state, with several definitions and labels.
func population(f *fixture) []*journal.Row {
	var rows []*journal.Row
	for i, state := range states {
		for j, definition := range []string{
			"acme.card.v1.CardSagas/IssueCard", "acme.card.v1.CardSagas/CloseCard", "b.v1.X/Y",
		} {
			r := row(fmt.Sprintf("s-%d%d", i, j), i*3+j)
			r.Definition, r.UpdateTime = definition, minute(40-i)
			switch j {
			case 0:
				r.Labels = map[string]string{"customer": fmt.Sprintf("c-%d", i)}
			case 1:
				r.Labels = map[string]string{"customer": "c-1", "amount": fmt.Sprint(i)}
			}
			f.write(first(r))
			r.State = state
			if state == suspended {
				r.Suspension = reasons[j]
			}
			if journal.Final(state) {
				r.EndTime = r.UpdateTime
			}
			f.write(next(r.ID, 2, r))
			rows = append(rows, r)
		}
	}
	return rows
}

// filtered checks that a filter selects the same rows as Filter.Match.
func (f *fixture) filtered(rows []*journal.Row, filter *journal.Filter) {
	f.T.Helper()
	var want []*journal.Row
	for _, r := range rows {
		if filter.Match(stored(r)) {
			want = append(want, r)
		}
	}
	slices.SortFunc(want, func(a, b *journal.Row) int {
		return cmp.Or(a.CreateTime.Compare(b.CreateTime), cmp.Compare(a.ID, b.ID))
	})
	got := f.list(journal.ListParams{Filter: filter, Limit: len(rows) + 1})
	f.sameIDs(describe(filter), got, idsOf(want)...)
	if len(got) == len(want) {
		for i := range got {
			f.sameRow(got[i], want[i])
		}
	}
}

func listFilters(f *fixture) {
	rows := population(f)
	var leaves []*journal.Filter
	for _, op := range comparisons {
		for _, id := range []string{"", "s-11", "s-1", "zzz", "S-11"} {
			leaves = append(leaves, leaf(op, journal.FieldID, id))
		}
		for _, definition := range []string{"acme.card.v1.CardSagas/IssueCard", "acme.card.v1.CardSagas/Nothing", ""} {
			leaves = append(leaves, leaf(op, journal.FieldDefinition, definition))
		}
		for _, at := range []time.Time{
			minute(7), minute(7).Add(time.Nanosecond), minute(7).Add(-time.Nanosecond), minute(38), {},
		} {
			leaves = append(leaves,
				timeLeaf(op, journal.FieldCreateTime, at), timeLeaf(op, journal.FieldUpdateTime, at))
		}
		leaves = append(leaves, labelLeaf(op, "customer", "c-1"), labelLeaf(op, "amount", "2"),
			labelLeaf(op, "unused", ""), labelLeaf(op, "", "c-1"))
		if op == journal.Equal || op == journal.NotEqual {
			for _, state := range states {
				leaves = append(leaves, leaf(op, journal.FieldState, state.String()[len("SAGA_STATE_"):]))
			}
			for _, reason := range []string{"PANIC", "RESTORED", "NO_CODE"} {
				leaves = append(leaves, leaf(op, journal.FieldSuspension, reason))
			}
		}
	}
	for _, filter := range leaves {
		f.filtered(rows, filter)
		f.filtered(rows, node(journal.Not, filter))
	}
	for i, filter := range leaves { // combine each with some others
		for _, step := range []int{1, 11, 29} {
			other, third := leaves[(i+step)%len(leaves)], leaves[(i+2*step)%len(leaves)]
			f.filtered(rows, node(journal.And, filter, node(journal.Not, other)))
			f.filtered(rows, node(journal.Or, filter, node(journal.And, other, third)))
			f.filtered(rows, node(journal.Not, node(journal.Or, node(journal.Not, filter), other, third)))
		}
	}
}

func listLabels(f *fixture) {
	odd := []string{
		"", " ", "'", `"`, `\`, "%", "_", "?", "a\x00b", "a\x00c", "\n", "\u00e9", "e\u0301", "日本", "\U0001F600",
		"<&>", "\u2028", "null", "1", "1.0", "a=b", "--",
	}
	var rows []*journal.Row
	for i, text := range odd {
		r := row(fmt.Sprintf("id %s", text), i)
		r.Definition = "definition " + text
		r.Labels = map[string]string{"key " + text: text, text: "value"}
		f.write(first(r))
		rows = append(rows, r)
	}
	for _, text := range odd {
		for _, op := range comparisons {
			f.filtered(rows, labelLeaf(op, "key "+text, text))
		}
		f.filtered(rows, labelLeaf(journal.Equal, text, "value"))
		f.filtered(rows, labelLeaf(journal.Equal, text, "Value"))
		f.filtered(rows, leaf(journal.Equal, journal.FieldID, "id "+text))
		f.filtered(rows, leaf(journal.Greater, journal.FieldID, "id "+text))
		f.filtered(rows, leaf(journal.Equal, journal.FieldDefinition, "definition "+text))
		f.holds(journalOf(rows[slices.Index(odd, text)], 1))
	}
}

func listPages(f *fixture) {
	// Three sagas share each creation time, and half of the sagas share each update time.
	var rows []*journal.Row
	for i := range 20 {
		r := row(fmt.Sprintf("s%02d", (i*7)%20), i/3)
		r.UpdateTime = minute(50 - i%2)
		r.State = states[i%len(states)]
		f.write(first(r))
		rows = append(rows, r)
	}
	filters := []*journal.Filter{
		nil,
		leaf(journal.NotEqual, journal.FieldState, "SUCCEEDED"),
		leaf(journal.Equal, journal.FieldState, "SUSPENDED"),
		node(journal.Or,
			leaf(journal.Equal, journal.FieldState, "SUSPENDED"), leaf(journal.Greater, journal.FieldID, "s11")),
		node(journal.And,
			timeLeaf(journal.GreaterOrEqual, journal.FieldCreateTime, minute(2)),
			timeLeaf(journal.Less, journal.FieldCreateTime, minute(5))),
	}
	for _, by := range []journal.OrderField{journal.OrderByCreateTime, journal.OrderByUpdateTime} {
		for _, descending := range []bool{false, true} {
			for _, filter := range filters {
				order := journal.Order{By: by, Descending: descending}
				for _, limit := range []int{1, 4, 100} {
					f.paged(rows, journal.ListParams{Filter: filter, Order: order, Limit: limit})
				}
			}
		}
	}
}

// paged reads all pages of a list and checks them.
func (f *fixture) paged(rows []*journal.Row, params journal.ListParams) {
	f.T.Helper()
	var want []*journal.Row
	for _, r := range rows {
		if params.Filter == nil || params.Filter.Match(r) {
			want = append(want, r)
		}
	}
	slices.SortFunc(want, func(a, b *journal.Row) int {
		order := cmp.Or(orderedTime(a, params.Order).Compare(orderedTime(b, params.Order)), cmp.Compare(a.ID, b.ID))
		if params.Order.Descending {
			return -order
		}
		return order
	})
	var got []*journal.Row
	for {
		page := f.list(params)
		if len(page) > params.Limit {
			f.Fatalf("%d rows in a page of %d", len(page), params.Limit)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		// Only the id and the time of the order are read.
		last := page[len(page)-1]
		params.After = &journal.Row{ID: last.ID}
		if params.Order.By == journal.OrderByUpdateTime {
			params.After.UpdateTime = last.UpdateTime
		} else {
			params.After.CreateTime = last.CreateTime
		}
	}
	what := fmt.Sprintf("%+v of %s in pages of %d", params.Order, describe(params.Filter), params.Limit)
	f.sameIDs(what, got, idsOf(want)...)
}

// listAfter continues a list after a row that the filter no longer selects, and after one that never existed.
func listAfter(f *fixture) {
	for i := range 5 {
		f.write(first(row(fmt.Sprintf("s%d", i), i)))
	}
	params := journal.ListParams{Filter: leaf(journal.Equal, journal.FieldState, "RUNNING"), Limit: 2}
	page := f.list(params)
	f.sameIDs("first page", page, "s0", "s1")
	moved := row("s1", 1)
	moved.State = suspended
	f.write(next("s1", 2, moved))
	params.After = page[1]
	f.sameIDs("second page", f.list(params), "s2", "s3")
	params.After = &journal.Row{ID: "s2zzz", CreateTime: minute(2)}
	f.sameIDs("after a row that never existed", f.list(params), "s3", "s4")
}

func listInvalid(f *fixture) {
	id := leaf(journal.Equal, journal.FieldID, "x")
	for name, filter := range map[string]*journal.Filter{
		"no operation":      {},
		"unknown operation": {Op: 99, Field: journal.FieldID},
		"no field":          {Op: journal.Equal},
		"unknown field":     {Op: journal.Equal, Field: 99},
		"and of one":        node(journal.And, id),
		"or of none":        node(journal.Or),
		"not of two":        node(journal.Not, id, id),
		"empty node":        node(journal.And, id, nil),
		"state by order":    leaf(journal.Less, journal.FieldState, "RUNNING"),
		"unknown state":     leaf(journal.Equal, journal.FieldState, "SLEEPING"),
		"state's full name": leaf(journal.Equal, journal.FieldState, "SAGA_STATE_RUNNING"),
		"reason by order":   leaf(journal.Less, journal.FieldSuspension, "PANIC"),
		"unknown reason":    leaf(journal.Equal, journal.FieldSuspension, "BORED"),
		"no reason":         leaf(journal.Equal, journal.FieldSuspension, "UNSPECIFIED"),
		"nested":            node(journal.Not, node(journal.Or, id, node(journal.Not))),
	} {
		_, err := f.List(f.Context(), journal.ListParams{Filter: filter, Limit: 1})
		f.failsWith(name, err, journal.ErrInvalid)
	}
	_, err := f.List(f.Context(), journal.ListParams{Order: journal.Order{By: 9}, Limit: 1})
	f.failsWith("unknown order", err, journal.ErrInvalid)
}

// listTurnTimes makes turns that don't change the rows of their sagas. Lists know when they were made all the same.
func listTurnTimes(f *fixture) {
	turn := func(id string, number uint64, at int, row *journal.Row) *journal.Entry {
		entry := next(id, number, row)
		if at > 0 {
			entry.Time = minute(at)
		}
		return entry
	}
	undone, ended, restarted := row("undone", 3), row("ended", 4), row("restarted", 5)
	f.write(first(row("idle", 1)), first(row("moves", 2)), first(undone), first(ended), first(restarted),
		first(row("unknown", 6)))
	undone.State, undone.UpdateTime = compensating, minute(7)
	ended.State, ended.UpdateTime, ended.EndTime = succeeded, minute(8), minute(8)
	restarted.UpdateTime = minute(9)
	again := turn("restarted", 2, 9, restarted)
	again.NewRound = true
	f.write(turn("moves", 2, 6, nil), turn("undone", 2, 7, undone), turn("ended", 2, 8, ended), again,
		turn("unknown", 2, 11, nil))
	f.write(turn("moves", 3, 20, nil), turn("undone", 3, 21, nil), turn("restarted", 3, 22, nil),
		turn("unknown", 3, 0, nil))

	byUpdate := journal.Order{By: journal.OrderByUpdateTime}
	rows := f.list(journal.ListParams{Order: byUpdate, Limit: 9})
	f.sameIDs("by update time", rows, "idle", "unknown", "ended", "moves", "undone", "restarted")
	for i, at := range []int{1, 6, 8, 20, 21, 22} {
		if i < len(rows) && !rows[i].UpdateTime.Equal(minute(at)) {
			f.Errorf("saga %s was updated at %v, want %v", rows[i].ID, rows[i].UpdateTime, minute(at))
		}
	}
	for _, limit := range []int{1, 2} {
		var paged []*journal.Row
		for params := (journal.ListParams{Order: byUpdate, Limit: limit}); ; {
			page := f.list(params)
			if paged = append(paged, page...); len(page) < limit || len(paged) > len(rows) {
				break
			}
			params.After = page[len(page)-1]
		}
		f.sameIDs("in pages", paged, idsOf(rows)...)
	}
	still := timeLeaf(journal.Less, journal.FieldUpdateTime, minute(20))
	f.sameIDs("no progress since", f.list(journal.ListParams{Filter: still, Limit: 9}), "idle", "ended", "unknown")
	f.sameIDs("running, and no progress since", f.list(journal.ListParams{
		Filter: node(journal.And, leaf(journal.Equal, journal.FieldState, "RUNNING"), still), Order: byUpdate, Limit: 9,
	}), "idle", "unknown")
	moved := timeLeaf(journal.GreaterOrEqual, journal.FieldUpdateTime, minute(20))
	f.sameIDs("progress since", f.list(journal.ListParams{Filter: moved, Limit: 9}), "moves", "undone", "restarted")
}

// listBigFilter uses filters with the maximum number of nodes, flat and nested.
func listBigFilter(f *fixture) {
	rows := population(f)
	wide := node(journal.Or)
	for i := range journal.MaxFilterNodes - 1 {
		wide.Args = append(wide.Args, labelLeaf(journal.Equal, "customer", fmt.Sprintf("c-%d", 3+i)))
	}
	f.filtered(rows, wide)
	deep := leaf(journal.Equal, journal.FieldID, "s-11")
	for range journal.MaxFilterNodes - 1 {
		deep = node(journal.Not, deep)
	}
	f.filtered(rows, deep)
	_, err := f.List(f.Context(), journal.ListParams{Filter: node(journal.Not, deep), Limit: 1})
	f.failsWith("one condition too many", err, journal.ErrInvalid)
}

// describe returns a filter in words.
func describe(f *journal.Filter) string {
	switch {
	case f == nil:
		return "everything"
	case len(f.Args) > 5:
		return fmt.Sprintf("op %d of %d conditions", f.Op, len(f.Args))
	case len(f.Args) == 0:
		return fmt.Sprintf("(op %d field %d %q %q %v)", f.Op, f.Field, f.Label, f.Text, f.Time)
	}
	text := fmt.Sprintf("op %d [", f.Op)
	for _, arg := range f.Args {
		text += describe(arg)
	}
	if len(text) > 500 {
		text = text[:500] + "..."
	}
	return text + "]"
}
