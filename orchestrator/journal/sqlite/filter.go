package sqlite

import (
	"strings"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// listQuery writes a list as SQL. Only operators and column names are put into the text; what a caller gave is an argument.
func listQuery(params journal.ListParams) (sql string, args []any) {
	var b condition
	column, after := "s.create_time", int64(0)
	if params.Order.By == journal.OrderByUpdateTime {
		column = "s.update_time"
	}
	if params.After != nil {
		after = params.After.CreateTime.UnixMicro()
		if params.Order.By == journal.OrderByUpdateTime {
			after = params.After.UpdateTime.UnixMicro()
		}
	}
	direction, behind := "ASC", ">"
	if params.Order.Descending {
		direction, behind = "DESC", "<"
	}
	b.text.WriteString("SELECT " + rowColumns + " FROM sagas s WHERE true")
	if params.Filter != nil {
		b.text.WriteString(" AND ")
		b.write(params.Filter)
	}
	if params.After != nil {
		b.text.WriteString(" AND (" + column + ", s.id) " + behind + " (?, ?)")
		b.args = append(b.args, after, params.After.ID)
	}
	b.text.WriteString(" ORDER BY " + column + " " + direction + ", s.id " + direction + " LIMIT ?")
	return b.text.String(), append(b.args, int64(params.Limit))
}

// condition is SQL in the making.
type condition struct {
	text strings.Builder
	args []any
}

var operators = map[journal.FilterOp]string{
	journal.Equal: "=", journal.NotEqual: "<>", journal.Less: "<", journal.LessOrEqual: "<=", journal.Greater: ">", journal.GreaterOrEqual: ">=",
}

// write writes a filter that is known to be valid.
func (c *condition) write(f *journal.Filter) {
	switch f.Op {
	case journal.And:
		c.join(f.Args, " AND ")
	case journal.Or:
		c.join(f.Args, " OR ")
	case journal.Not:
		c.text.WriteString("NOT ")
		c.join(f.Args, "")
	default:
		c.compare(f)
	}
}

func (c *condition) join(args []*journal.Filter, with string) {
	c.text.WriteString("(")
	for i, arg := range args {
		if i > 0 {
			c.text.WriteString(with)
		}
		c.write(arg)
	}
	c.text.WriteString(")")
}

func (c *condition) compare(f *journal.Filter) {
	operator := operators[f.Op]
	switch f.Field {
	case journal.FieldID:
		c.leaf("s.id "+operator+" ?", f.Text)
	case journal.FieldDefinition:
		c.leaf("(SELECT name FROM definitions WHERE definitions.key = s.definition) "+operator+" ?", f.Text)
	case journal.FieldState:
		state, _ := f.State()
		c.leaf("s.state "+operator+" ?", int64(state))
	case journal.FieldCreateTime:
		c.leaf("s.create_time "+operator+" ?", f.Time.UnixMicro())
	case journal.FieldUpdateTime:
		c.leaf("s.update_time "+operator+" ?", f.Time.UnixMicro())
	case journal.FieldLabel:
		// A saga without the label equals nothing.
		in := "s.key IN "
		if f.Op == journal.NotEqual {
			in, operator = "s.key NOT IN ", "="
		}
		c.leaf(in+"(SELECT saga FROM labels WHERE label = ? AND value "+operator+" ?)", f.Label, f.Text)
	}
}

func (c *condition) leaf(sql string, args ...any) {
	c.text.WriteString(sql)
	c.args = append(c.args, args...)
}
