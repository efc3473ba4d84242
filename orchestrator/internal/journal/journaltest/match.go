package journaltest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Match returns whether a valid filter selects a row. The filters of all stores must work like it.
func Match(f *journal.Filter, row *journal.Row) bool {
	switch f.Op {
	case journal.And:
		return !slices.ContainsFunc(f.Args, func(arg *journal.Filter) bool { return !Match(arg, row) })
	case journal.Or:
		return slices.ContainsFunc(f.Args, func(arg *journal.Filter) bool { return Match(arg, row) })
	case journal.Not:
		return !Match(f.Args[0], row)
	default:
		return matchLeaf(f, row)
	}
}

func matchLeaf(f *journal.Filter, row *journal.Row) bool {
	switch f.Field {
	case journal.FieldID:
		return holds(f.Op, strings.Compare(row.ID, f.Text))
	case journal.FieldDefinition:
		return holds(f.Op, strings.Compare(row.Definition, f.Text))
	case journal.FieldState:
		state, _ := f.State()
		return holds(f.Op, cmp.Compare(row.State, state))
	case journal.FieldSuspension:
		reason, _ := f.Suspension()
		return holds(f.Op, cmp.Compare(row.Suspension, reason))
	case journal.FieldCreateTime:
		return holds(f.Op, row.CreateTime.Compare(micro(f.Time)))
	case journal.FieldUpdateTime:
		return holds(f.Op, row.UpdateTime.Compare(micro(f.Time)))
	default:
		value, labelled := row.Labels[f.Label]
		if !labelled {
			return f.Op == journal.NotEqual
		}
		return holds(f.Op, strings.Compare(value, f.Text))
	}
}

func holds(op journal.FilterOp, order int) bool {
	switch op {
	case journal.Equal:
		return order == 0
	case journal.NotEqual:
		return order != 0
	case journal.Less:
		return order < 0
	case journal.LessOrEqual:
		return order <= 0
	case journal.Greater:
		return order > 0
	default:
		return order >= 0
	}
}

// driven returns whether Open selects a saga with journal.Driven.
func driven(row *journal.Row) bool {
	return !row.Waiting && (row.State == running || row.State == compensating)
}
