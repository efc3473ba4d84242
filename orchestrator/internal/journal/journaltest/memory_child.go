package journaltest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Children implements journal.Store.
func (m *Memory) Children(ctx context.Context, params journal.ChildrenParams) ([]*journal.Row, error) {
	compare := func(a, b *journal.Row) int {
		return cmp.Or(strings.Compare(a.Parent.Saga, b.Parent.Saga), strings.Compare(a.ID, b.ID))
	}
	var rows []*journal.Row
	err := m.page(ctx, "read children", params.Limit, func(c *contents) {
		for _, saga := range c.sagas {
			row := listed(&saga.Row)
			if row.Parent.Saga != "" && (row.Parent.Scope == "" || row.Parent.Scope == params.Scope) &&
				(params.Parent == "" || row.Parent.Saga == params.Parent) &&
				!row.UpdateTime.Before(micro(params.Since)) &&
				(params.After == nil || compare(row, params.After) > 0) {
				rows = append(rows, row)
			}
		}
		slices.SortFunc(rows, compare)
	})
	return rows[:min(max(params.Limit, 0), len(rows))], err
}

// OldestChild implements journal.Store.
func (m *Memory) OldestChild(ctx context.Context) (oldest time.Time, err error) {
	err = m.use(ctx, "read the oldest child", func(c *contents) error {
		for _, saga := range c.sagas {
			created := saga.Row.CreateTime
			if c.parentIsOpen(saga.Row.Parent) && (oldest.IsZero() || created.Before(oldest)) {
				oldest = created
			}
		}
		return nil
	})
	return oldest, err
}

// parentIsOpen returns whether a parent may still send commands, as far as it is known.
func (c *contents) parentIsOpen(parent journal.Parent) bool {
	scope, heard := c.scopes[parent.Scope]
	return heard && !parent.Start.IsZero() && !parent.Start.Before(scope.Horizon)
}

// Hear implements journal.Store.
func (m *Memory) Hear(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error) {
	err = m.use(ctx, "store what was heard of a scope", func(c *contents) error {
		if err := told.Validate(); err != nil {
			return err
		}
		if !told.Horizon.IsZero() {
			told.Horizon = micro(told.Horizon)
		}
		before = c.scopes[told.Scope]
		c.scopes[told.Scope] = before.Merge(told)
		return nil
	})
	return before, err
}
