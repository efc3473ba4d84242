package sqlite

import (
	"strconv"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	// turnTime is when the last turn of a saga was made, or when its row was last written if that isn't known. It costs
	// one search for each saga.
	turnTime = `ifnull((SELECT time FROM turns WHERE position BETWEEN s.key << 24 AND (s.key << 24 | 0xffffff)
		ORDER BY position DESC LIMIT 1), s.update_time)`

	// updateTime is when a saga last changed. The row of one that runs isn't written with each turn.
	updateTime = `iif(s.state < 3, ` + turnTime + `, s.update_time)`
)

// listQuery returns the SQL of a list. The text holds only operators, column names and the numbers of states. The
// caller's values are arguments.
func listQuery(params journal.ListParams) (sql string, args []any) {
	direction, position := " ASC", "5"
	if params.Order.Descending {
		direction = " DESC"
	}
	if params.Order.By == journal.OrderByUpdateTime {
		// An index sorts the sagas with these states. The others are few, and SQLite sorts them.
		ended, _ := rowsQuery(params, "s.update_time")
		open, openArgs := rowsQuery(params, turnTime) // has the same arguments
		sql, args = ended+" AND s.state >= 3 UNION ALL "+open+" AND s.state < 3 AND s.state < 4", openArgs
		position = "6"
	} else {
		sql, args = rowsQuery(params, updateTime)
	}
	args = append(args, int64(params.Limit))
	return sql + " ORDER BY " + position + direction + ", 2" + direction + " LIMIT ?" + strconv.Itoa(len(args)), args
}

// rowsQuery returns the SQL of the rows of a list, without their order. updated is when a saga last changed.
func rowsQuery(params journal.ListParams, updated string) (sql string, args []any) {
	where := condition{updated: updated}
	where.text.WriteString("true")
	if params.Filter != nil {
		where.text.WriteString(" AND ")
		where.write(params.Filter)
	}
	if params.After != nil {
		column, last := "s.create_time", params.After.CreateTime
		if params.Order.By == journal.OrderByUpdateTime {
			column, last = updated, params.After.UpdateTime
		}
		after := " > "
		if params.Order.Descending {
			after = " < "
		}
		where.text.WriteString(" AND (" + column + ", s.id)" + after +
			"(" + where.arg(last.UnixMicro()) + ", " + where.arg(params.After.ID) + ")")
	}
	columns := strings.Replace(rowColumns, "s.update_time", updated, 1)
	return "SELECT " + columns + " FROM sagas s WHERE " + where.text.String(), where.args
}

// condition builds the text and the arguments of a condition.
type condition struct {
	text    strings.Builder
	args    []any
	updated string // the SQL of when a saga last changed
}

// arg adds an argument and returns its placeholder.
func (c *condition) arg(value any) string {
	c.args = append(c.args, value)
	return "?" + strconv.Itoa(len(c.args))
}

var operators = map[journal.FilterOp]string{
	journal.Equal: " = ", journal.NotEqual: " <> ", journal.Less: " < ", journal.LessOrEqual: " <= ",
	journal.Greater: " > ", journal.GreaterOrEqual: " >= ",
}

// write adds a valid filter.
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
		c.text.WriteString(c.compare(f))
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

// compare returns the SQL of a leaf. SQLite assumes that few sagas match a comparison, so it would read and sort all
// of them instead of reading the index with the right order until the page is full. A plus before a column prevents
// that where most sagas may match.
func (c *condition) compare(f *journal.Filter) string {
	operator := operators[f.Op]
	switch f.Field {
	case journal.FieldID:
		if f.Op == journal.Equal {
			return "s.id = " + c.arg(f.Text)
		}
		return "+s.id" + operator + c.arg(f.Text)
	case journal.FieldDefinition:
		return "+s.definition IN (SELECT key FROM definitions WHERE name" + operator + c.arg(f.Text) + ")"
	case journal.FieldState:
		return compareState(f)
	case journal.FieldSuspension:
		return compareSuspension(f)
	case journal.FieldCreateTime:
		return "s.create_time" + operator + c.arg(f.Time.UnixMicro())
	case journal.FieldUpdateTime:
		return c.updated + operator + c.arg(f.Time.UnixMicro())
	case journal.FieldLabel:
		// A saga without the label only matches NotEqual.
		in := "s.key IN "
		if f.Op == journal.NotEqual {
			in, operator = "s.key NOT IN ", " = "
		}
		label, value := c.arg(f.Label), c.arg(f.Text)
		return in + "(SELECT saga FROM labels WHERE label = " + label + " AND value" + operator + value + ")"
	}
	return "false" // Validate refuses other fields
}

// compareState repeats the conditions of the partial indexes literally, so that SQLite can use them.
func compareState(f *journal.Filter) string {
	state, _ := f.State()
	number := strconv.Itoa(int(state))
	if f.Op == journal.Equal && !journal.Final(state) {
		return "(s.state = " + number + " AND s.state < 4)"
	}
	if f.Op == journal.Equal && state == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		return "s.state = 5"
	}
	return "+s.state" + operators[f.Op] + number
}

// compareSuspension adds to a comparison with a reason that the saga is suspended, so that SQLite reads only those.
func compareSuspension(f *journal.Filter) string {
	reason, _ := f.Suspension()
	number := strconv.Itoa(int(reason))
	if f.Op == journal.Equal {
		return "(s.state = 3 AND s.state < 4 AND s.suspension = " + number + ")"
	}
	return "+s.suspension <> " + number
}
