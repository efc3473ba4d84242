package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// turnTime is when the last turn of a saga was made, or when its row was last written if that isn't known. It costs one
// search for each saga.
const turnTime = `coalesce((SELECT t.time FROM turns t WHERE t.position BETWEEN s.key << 24 AND s.key << 24 | 16777215
	ORDER BY t.position DESC LIMIT 1), x.update_time)`

// part is one of the tables with the changing part of a saga.
type part struct {
	columns, from string
	suspension    string
	updated       string // the SQL of when a saga last changed
	ended         bool
}

var (
	openPart = part{openColumns, fromOpen, "x.suspension",
		`(CASE WHEN x.state < 3 THEN ` + turnTime + ` ELSE x.update_time END)`, false}
	endedPart = part{endedColumns, fromEnded, "0", "x.update_time", true}
)

// List implements journal.Store.
func (d *Database) List(ctx context.Context, params journal.ListParams) (rows []*journal.Row, err error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("list sagas in the store %s: %w", d.name, err)
	}
	sql, args := listQuery(params)
	// Each filter has its own text, so the server should keep none of them.
	args = append([]any{pgx.QueryExecModeExec}, args...)
	err = d.query(ctx, "list sagas", func(ctx context.Context, q querier) error {
		sagas, err := sagasIn(ctx, q, sql, args...)
		if err != nil {
			return err
		}
		rows = nil
		for _, saga := range sagas {
			if saga.err != nil {
				saga.row.Err = explain("list saga "+saga.row.ID+" in the store", d.name, saga.err)
			}
			rows = append(rows, &saga.row)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// listQuery returns the SQL of a list. The text holds only operators, column names and the numbers of states. The
// caller's values are arguments. Each of the two tables has its page, from which the page is merged.
func listQuery(params journal.ListParams) (sql string, args []any) {
	direction, order := " ASC", 5 // the column create_time
	if params.Order.Descending {
		direction = " DESC"
	}
	if params.Order.By == journal.OrderByUpdateTime {
		order = 6
	}
	c := condition{}
	limit := c.arg(params.Limit)
	var pages []string
	for _, part := range []part{openPart, endedPart} {
		if part.ended && !mayMatchEnded(params.Filter) {
			continue
		}
		time := "s.create_time"
		if order == 6 {
			time = part.updated
		}
		pages = append(pages, `(`+c.page(part, params, time)+` ORDER BY `+time+direction+`, s.id`+direction+
			` LIMIT `+limit+`)`)
	}
	if len(pages) == 1 {
		return pages[0], c.args
	}
	return strings.Join(pages, ` UNION ALL `) + ` ORDER BY ` + strconv.Itoa(order) + direction + `, 2` + direction +
		` LIMIT ` + limit, c.args
}

// mayMatchEnded returns whether a filter may select a saga that has ended.
func mayMatchEnded(f *journal.Filter) bool {
	if f == nil {
		return true
	}
	may, _ := ended(f)
	return may
}

// ended returns whether a filter may be true, and whether it may be false, for some saga that has ended.
func ended(f *journal.Filter) (mayBeTrue, mayBeFalse bool) {
	switch f.Op {
	case journal.And, journal.Or:
		allTrue, allFalse := true, true
		anyTrue, anyFalse := false, false
		for _, arg := range f.Args {
			t, f := ended(arg)
			allTrue, allFalse, anyTrue, anyFalse = allTrue && t, allFalse && f, anyTrue || t, anyFalse || f
		}
		if f.Op == journal.And {
			return allTrue, anyFalse
		}
		return anyTrue, allFalse
	case journal.Not:
		t, f := ended(f.Args[0])
		return f, t
	}
	if f.Field != journal.FieldState {
		return true, true
	}
	state, _ := f.State()
	if journal.Final(state) {
		return true, true
	}
	return f.Op == journal.NotEqual, f.Op == journal.Equal
}

// condition builds the text and the arguments of a condition.
type condition struct {
	text strings.Builder
	args []any
	part part
}

// page returns the SQL of the rows of a list in one table, without their order. time is the SQL of the time of the
// order.
func (c *condition) page(part part, params journal.ListParams, time string) string {
	c.part = part
	c.text.Reset()
	c.text.WriteString("true")
	if params.Filter != nil {
		c.text.WriteString(" AND ")
		c.write(params.Filter)
	}
	if params.After != nil {
		last := params.After.CreateTime
		if params.Order.By == journal.OrderByUpdateTime {
			last = params.After.UpdateTime
		}
		after := " > "
		if params.Order.Descending {
			after = " < "
		}
		c.text.WriteString(" AND (" + time + ", s.id)" + after +
			"(" + c.arg(last.UnixMicro()) + "::bigint, " + c.arg(encoded(params.After.ID)) + ")")
	}
	columns := strings.Replace(part.columns, "x.update_time", part.updated, 1)
	return "SELECT " + columns + part.from + " WHERE " + c.text.String()
}

// arg adds an argument and returns its placeholder.
func (c *condition) arg(value any) string {
	c.args = append(c.args, value)
	return "$" + strconv.Itoa(len(c.args))
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

// compare returns the SQL of a leaf.
func (c *condition) compare(f *journal.Filter) string {
	operator := operators[f.Op]
	switch f.Field {
	case journal.FieldID:
		return "s.id" + operator + c.arg(encoded(f.Text))
	case journal.FieldDefinition:
		return "s.definition IN (SELECT key FROM names WHERE name" + operator + c.arg(encoded(f.Text)) + ")"
	case journal.FieldState:
		state, _ := f.State()
		return "x.state" + operator + strconv.Itoa(int(state))
	case journal.FieldSuspension:
		reason, _ := f.Suspension()
		number := strconv.Itoa(int(reason))
		if f.Op == journal.Equal {
			return "(x.state = " + strconv.Itoa(int(treatyv1.SagaState_SAGA_STATE_SUSPENDED)) + " AND " +
				c.part.suspension + " = " + number + ")"
		}
		return c.part.suspension + " <> " + number
	case journal.FieldCreateTime:
		return "s.create_time" + operator + c.arg(f.Time.UnixMicro())
	case journal.FieldUpdateTime:
		return c.part.updated + operator + c.arg(f.Time.UnixMicro())
	case journal.FieldLabel:
		label, value := c.arg(encoded(f.Label)), c.arg(encoded(f.Text))
		if f.Op == journal.NotEqual { // a saga without the label only matches this
			return "NOT EXISTS (SELECT 1 FROM labels l WHERE l.label = " + label + " AND l.value = " + value +
				" AND l.saga = s.key)"
		}
		return "s.key IN (SELECT saga FROM labels WHERE label = " + label + " AND value" + operator + value + ")"
	}
	return "false" // Validate refuses other fields
}
