package journaltest

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func children(f *fixture) {
	child := func(id, scope, parent string, at int) *journal.Row {
		r := row(id, at)
		r.Parent = journal.Parent{Scope: scope, Saga: parent, Start: minute(0)}
		return r
	}
	changes := child("b", "x/0", "p1", 1)
	rows := []*journal.Row{
		child("a", "x/0", "p2", 2), changes, child("c", "x/0", "p1", 3), child("d", "y/0", "p1", 4),
		child("e", "", "p1", 5), row("f", 6),
	}
	for _, r := range rows {
		f.write(first(r))
		f.holds(&journal.Journal{Row: *r, Turns: []journal.Turn{{Number: 1, Data: first(r).Data}}})
	}
	// A later row doesn't change the parent.
	later := row("b", 1)
	later.UpdateTime = minute(9)
	f.write(next("b", 2, later))
	for _, test := range []struct {
		name   string
		params journal.ChildrenParams
		want   []string
	}{
		{"of a scope", journal.ChildrenParams{Scope: "x/0"}, []string{"b", "c", "e", "a"}},
		{"of another scope", journal.ChildrenParams{Scope: "y/0"}, []string{"d", "e"}},
		{"of an unknown scope", journal.ChildrenParams{Scope: "z/0"}, []string{"e"}},
		{"of a saga", journal.ChildrenParams{Scope: "x/0", Parent: "p1"}, []string{"b", "c", "e"}},
		{"of another saga", journal.ChildrenParams{Scope: "x/0", Parent: "p2"}, []string{"a"}},
		{"of an unknown saga", journal.ChildrenParams{Scope: "x/0", Parent: "p3"}, []string{}},
		{"since a time", journal.ChildrenParams{Scope: "x/0", Since: row("c", 3).UpdateTime}, []string{"b", "c", "e"}},
		{"after a time", journal.ChildrenParams{Scope: "x/0", Since: minute(9).Add(time.Microsecond)}, []string{}},
	} {
		params := test.params
		params.Limit = 10
		all, err := f.Children(f.Context(), params)
		if err != nil {
			f.Errorf("%s: %v", test.name, err)
		}
		f.sameIDs(test.name, all, test.want...)
		var paged []*journal.Row
		for params.Limit = 1; ; params.After = paged[len(paged)-1] {
			page, err := f.Children(f.Context(), params)
			if err != nil {
				f.Errorf("%s: %v", test.name, err)
			}
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
		}
		f.sameIDs(test.name+", in pages", paged, test.want...)
	}
	if got, err := f.Get(f.Context(), "b"); err != nil || got.Parent != changes.Parent {
		f.Errorf("the parent is %+v, %v; want %+v", got, err, changes.Parent)
	}
	_, err := f.Children(f.Context(), journal.ChildrenParams{})
	f.failsWith("a page of no size", err, journal.ErrInvalid)
	for _, parent := range []journal.Parent{
		{Scope: "x/0"}, {Start: minute(1)}, {Scope: "x\xff", Saga: "p"}, {Saga: "p\xff"},
	} {
		bad := row("bad", 1)
		bad.Parent = parent
		f.failsWith("an invalid parent", f.Append(f.Context(), []*journal.Entry{first(bad)}), journal.ErrInvalid)
	}
}

func scopes(f *fixture) {
	horizon := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	known := journal.HeardScope{Scope: "x/0", Epoch: 7, Position: 3, StoreID: "s", Horizon: horizon}
	for _, step := range []struct {
		name               string
		told, before, then journal.HeardScope
	}{
		{"the first", known, journal.HeardScope{}, known},
		{"an epoch alone", journal.HeardScope{Scope: "x/0", Epoch: 7}, known, known},
		{"an older one", journal.HeardScope{Scope: "x/0", Epoch: 6, Position: 9, StoreID: "t"}, known, known},
		{
			"a later one", journal.HeardScope{Scope: "x/0", Epoch: 8, Position: 2, StoreID: "t"}, known,
			journal.HeardScope{Scope: "x/0", Epoch: 8, Position: 3, StoreID: "t", Horizon: horizon},
		},
	} {
		if before, err := f.Hear(f.Context(), step.told); err != nil || before != step.before {
			f.Errorf("%s: before it was %+v, %v; want %+v", step.name, before, err, step.before)
		}
		f.reopen()
		then, err := f.Hear(f.Context(), journal.HeardScope{Scope: "x/0", Epoch: 1})
		if err != nil || !reflect.DeepEqual(then, step.then) {
			f.Errorf("%s: then it is %+v, %v; want %+v", step.name, then, err, step.then)
		}
	}
	if other, err := f.Hear(f.Context(), journal.HeardScope{Scope: "y/0", Epoch: 1}); err != nil || other.Scope != "" {
		f.Errorf("another scope is known as %+v, %v", other, err)
	}
	for _, told := range []journal.HeardScope{{Epoch: 1}, {Scope: "x\xff", Epoch: 1}, {Scope: "x/0", Epoch: 1 << 63}} {
		_, err := f.Hear(f.Context(), told)
		f.failsWith("an invalid scope", err, journal.ErrInvalid)
	}
}

func oldestChild(f *fixture) {
	is := func(what string, want time.Time) {
		f.T.Helper()
		if got, err := f.OldestChild(f.Context()); err != nil || !got.Equal(want) {
			f.Errorf("%s: the oldest child is of %v, %v; want %v", what, got, err, want)
		}
	}
	for _, child := range []struct {
		id, scope string
		at        int
		start     time.Time
	}{
		{"not a child", "", 1, time.Time{}}, {"no scope", "", 2, minute(1)}, {"no start", "x/0", 3, time.Time{}},
		{"a", "x/0", 4, minute(3)}, {"b", "x/0", 5, minute(2)}, {"c", "y/0", 6, minute(1)},
	} {
		r := row(child.id, child.at)
		if child.id != "not a child" {
			r.Parent = journal.Parent{Scope: child.scope, Saga: "p", Start: child.start}
		}
		f.write(first(r))
	}
	is("no scope was heard", time.Time{})
	hear := func(scope string, horizon time.Time) {
		if _, err := f.Hear(f.Context(), journal.HeardScope{Scope: scope, Epoch: 1, Horizon: horizon}); err != nil {
			f.Error(err)
		}
	}
	hear("x/0", time.Time{})
	hear("y/0", time.Time{})
	is("no horizon was heard", minute(4))
	ended := row("a", 4)
	ended.State, ended.EndTime = succeeded, minute(7)
	f.write(next("a", 2, ended))
	is("a child has succeeded", minute(4))
	hear("x/0", minute(3))
	is("the horizon is at the start of a parent", minute(4))
	hear("x/0", minute(3).Add(time.Microsecond))
	f.reopen()
	is("the horizon is after the start of a parent", minute(6))
	hear("y/0", minute(8))
	is("all parents are over", time.Time{})
}

// purgeChildren checks that a child stays until its parent is over.
func purgeChildren(f *fixture) {
	for id, parent := range map[string]journal.Parent{
		"open": {Scope: "x/0", Saga: "p", Start: minute(3)}, "over": {Scope: "x/0", Saga: "q", Start: minute(2)},
		"unheard": {Scope: "y/0", Saga: "p", Start: minute(3)}, "no scope": {Saga: "p"}, "no child": {},
	} {
		r := row(id, 4)
		r.Parent, r.State, r.EndTime = parent, succeeded, minute(5)
		f.write(first(r))
	}
	purge := func(want int) {
		f.T.Helper()
		params := journal.PurgeParams{
			Definitions: []string{row("", 0).Definition}, EndedBefore: minute(6), Limit: 10,
		}
		if got, err := f.Purge(f.Context(), params); err != nil || got != want {
			f.Errorf("%d sagas were purged, %v; want %d", got, err, want)
		}
	}
	hear := func(horizon time.Time) {
		if _, err := f.Hear(f.Context(), journal.HeardScope{Scope: "x/0", Epoch: 1, Horizon: horizon}); err != nil {
			f.Error(err)
		}
	}
	hear(minute(3))
	purge(4)
	f.sameIDs("after the purge", f.list(journal.ListParams{Limit: 10}), "open")
	hear(minute(4))
	purge(1)
}

// purgeFamilies checks that the children that a saga may compensate are purged together with it, and not before.
func purgeFamilies(f *fixture) {
	const childDefinition = "acme.v1.Sagas/Child"
	family := func(id, definition, parent string, state treatyv1.SagaState) {
		r := row(id, 1)
		r.Definition, r.LocalParent, r.State = definition, parent, state
		r.Labels = map[string]string{"customer": "c-1"}
		if journal.Final(state) {
			r.EndTime = minute(5)
		}
		f.write(first(r))
	}
	ended := row("", 0).Definition
	family("a", ended, "", succeeded)
	family("a1", childDefinition, "a", succeeded)
	family("a2", childDefinition, "a", compensated)
	family("a21", childDefinition, "a2", succeeded)
	family("b", ended, "", running)
	family("b1", childDefinition, "b", succeeded)
	family("c", ended, "", succeeded)
	family("c1", childDefinition, "c", succeeded)
	family("c11", childDefinition, "c1", running)
	family("d", childDefinition, "", succeeded) // without a parent
	family("x1", childDefinition, "gone", succeeded)

	purge := func(want int, definitions ...string) {
		f.T.Helper()
		params := journal.PurgeParams{
			Definitions: definitions, EndedBefore: minute(6), Limit: 10, Remember: func(string) bool { return true },
		}
		if got, err := f.Purge(f.Context(), params); err != nil || got != want {
			f.Errorf("%d sagas of %q were purged, %v; want %d", got, definitions, err, want)
		}
	}
	left := func(want ...string) {
		f.T.Helper()
		rows := f.list(journal.ListParams{Limit: 20})
		slices.SortFunc(rows, func(a, b *journal.Row) int { return cmp.Compare(a.ID, b.ID) })
		f.sameIDs("after the purge", rows, want...)
		f.sameIDs("by label", f.list(journal.ListParams{
			Filter: labelLeaf(journal.Equal, "customer", "c-1"), Limit: 20,
		}), want...)
	}
	if got, err := f.Get(f.Context(), "a1"); err != nil || got.LocalParent != "a" {
		f.Errorf("the child is %+v, %v", got, err)
	}
	purge(1, childDefinition)
	left("a", "a1", "a2", "a21", "b", "b1", "c", "c1", "c11", "x1")
	f.reopen()
	purge(4, ended) // a, with its family
	left("b", "b1", "c", "c1", "c11", "x1")
	for _, id := range []string{"a", "a1", "a21"} {
		if purged, err := f.Purged(f.Context(), id); err != nil || !purged {
			f.Errorf("%s is remembered: %v, %v", id, purged, err)
		}
	}
	grandchild := row("c11", 1)
	grandchild.State, grandchild.EndTime = succeeded, minute(9) // later than the time before which its root ended
	f.write(next("c11", 2, grandchild))
	purge(3, ended)
	left("b", "b1", "x1")

	for _, wrong := range []*journal.Row{
		{ID: "own", LocalParent: "own"}, {ID: "both", LocalParent: "p", Parent: journal.Parent{Saga: "q"}},
		{ID: "bytes", LocalParent: "\xff"},
	} {
		wrong.State = running
		f.failsWith(wrong.ID, f.Append(f.Context(), []*journal.Entry{first(wrong)}), journal.ErrInvalid)
	}
}

// purgeOne checks which sagas can be purged by their ids.
func purgeOne(f *fixture) {
	put := func(id, parent string, state treatyv1.SagaState, remote journal.Parent) {
		r := row(id, 1)
		r.LocalParent, r.State, r.Parent = parent, state, remote
		if journal.Final(state) {
			r.EndTime = minute(5)
		}
		f.write(first(r))
	}
	put("a", "", succeeded, journal.Parent{})
	put("a1", "a", compensated, journal.Parent{})
	put("b", "", suspended, journal.Parent{})
	put("c", "", succeeded, journal.Parent{})
	put("c1", "c", running, journal.Parent{})
	put("k1", "", succeeded, journal.Parent{})
	put("open", "", succeeded, journal.Parent{Scope: "x/0", Saga: "p", Start: minute(3), Compensates: true})
	put("k over", "", succeeded, journal.Parent{Scope: "x/0", Saga: "q", Start: minute(2), Compensates: true})
	if _, err := f.Hear(f.Context(), journal.HeardScope{Scope: "x/0", Epoch: 1, Horizon: minute(3)}); err != nil {
		f.Error(err)
	}
	for _, test := range []struct {
		id   string
		want int
	}{
		{"a1", 0}, {"a", 2}, {"a", 0}, {"b", 0}, {"c", 0}, {"c1", 0}, {"k1", 0}, {"open", 0}, {"k over", 1},
		{"none", 0},
	} {
		got, err := f.Purge(f.Context(), journal.PurgeParams{Saga: test.id, ExceptPrefix: "k", Limit: 1})
		if err != nil || got != test.want {
			f.Errorf("purge %s: %d sagas, %v; want %d", test.id, got, err, test.want)
		}
	}
	rows := f.list(journal.ListParams{Limit: 20})
	slices.SortFunc(rows, func(a, b *journal.Row) int { return cmp.Compare(a.ID, b.ID) })
	f.sameIDs("after the purges", rows, "b", "c", "c1", "k1", "open")
}

// purgeCompensated checks that sagas that another store's saga may compensate are purged apart from others, once that
// one is over.
func purgeCompensated(f *fixture) {
	for id, parent := range map[string]journal.Parent{
		"open": {Scope: "x/0", Saga: "p", Start: minute(3), Compensates: true},
		"over": {Scope: "x/0", Saga: "q", Start: minute(2), Compensates: true},
		"old":  {Saga: "p", Compensates: true}, "c other": {Scope: "x/0", Saga: "q", Start: minute(2)}, "none": {},
	} {
		r := row(id, 4)
		r.Parent, r.State, r.EndTime = parent, succeeded, minute(5)
		f.write(first(r))
	}
	grandchild := row("grandchild", 4)
	grandchild.State, grandchild.EndTime, grandchild.LocalParent = succeeded, minute(5), "over"
	f.write(first(grandchild))
	if _, err := f.Hear(f.Context(), journal.HeardScope{Scope: "x/0", Epoch: 1, Horizon: minute(3)}); err != nil {
		f.Error(err)
	}
	for _, test := range []struct {
		compensated bool
		except      string
		want        []string // that are left
	}{
		{false, "c ", []string{"c other", "grandchild", "old", "open", "over"}},
		{false, "", []string{"grandchild", "old", "open", "over"}},
		{true, "", []string{"open"}},
	} {
		params := journal.PurgeParams{
			Definitions: []string{row("", 0).Definition}, EndedBefore: minute(6), Limit: 10,
			Compensated: test.compensated, ExceptPrefix: test.except,
		}
		if _, err := f.Purge(f.Context(), params); err != nil {
			f.Error(err)
		}
		rows := f.list(journal.ListParams{Limit: 20})
		slices.SortFunc(rows, func(a, b *journal.Row) int { return cmp.Compare(a.ID, b.ID) })
		f.sameIDs("after the purge", rows, test.want...)
	}
}
