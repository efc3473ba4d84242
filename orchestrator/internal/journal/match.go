package journal

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Match returns whether a valid filter selects a row, of which the labels and the times are as List returns them. The
// filters of all stores work like it.
func (f *Filter) Match(row *Row) bool {
	switch f.Op {
	case And:
		return !slices.ContainsFunc(f.Args, func(arg *Filter) bool { return !arg.Match(row) })
	case Or:
		return slices.ContainsFunc(f.Args, func(arg *Filter) bool { return arg.Match(row) })
	case Not:
		return !f.Args[0].Match(row)
	default:
		return f.matchLeaf(row)
	}
}

func (f *Filter) matchLeaf(row *Row) bool {
	switch f.Field {
	case FieldID:
		return f.Op.holds(strings.Compare(row.ID, f.Text))
	case FieldDefinition:
		return f.Op.holds(strings.Compare(row.Definition, f.Text))
	case FieldState:
		state, _ := f.State()
		return f.Op.holds(cmp.Compare(row.State, state))
	case FieldSuspension:
		reason, _ := f.Suspension()
		return f.Op.holds(cmp.Compare(row.Suspension, reason))
	case FieldCreateTime:
		return f.Op.holds(row.CreateTime.Compare(microseconds(f.Time)))
	case FieldUpdateTime:
		return f.Op.holds(row.UpdateTime.Compare(microseconds(f.Time)))
	default:
		value, labelled := row.Labels[f.Label]
		if !labelled {
			return f.Op == NotEqual
		}
		return f.Op.holds(strings.Compare(value, f.Text))
	}
}

func microseconds(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// holds returns whether a comparison is true if its sides are in an order.
func (op FilterOp) holds(order int) bool {
	switch op {
	case Equal:
		return order == 0
	case NotEqual:
		return order != 0
	case Less:
		return order < 0
	case LessOrEqual:
		return order <= 0
	case Greater:
		return order > 0
	default:
		return order >= 0
	}
}
