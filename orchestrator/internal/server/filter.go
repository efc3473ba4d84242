package server

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.einride.tech/aip/filtering"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	maxFilter      = 4096
	maxFilterDepth = 50
)

// filterParser reads filters of sagas. It isn't changed by reading.
type filterParser struct {
	// name is the orchestrator's name, and definitions are the saga definitions that it runs. The id of a saga that was
	// started with a request id is derived from both.
	name        string
	definitions []string
}

// filters returns the parser of the filters of this server's sagas.
func (s *Server) filters() filterParser {
	return filterParser{name: s.name, definitions: slices.Sorted(maps.Keys(s.definitions))}
}

// parse reads an AIP-160 filter: definition, state, suspension_reason, create_time, update_time and labels.KEY with =
// != < <= > >=, request_id with = and !=, labels:KEY for "has the label", and AND, OR, NOT and parentheses. It returns
// nil for an empty one, which selects all.
//
// A request id is compared by the ids that sagas with it have: one for each definition that the orchestrator runs, or
// that the filter names with =.
func (p filterParser) parse(text string) (*journal.Filter, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	if len(text) > maxFilter {
		return nil, invalid("filter", "has %d bytes; at most %d are allowed", len(text), maxFilter)
	}
	if strings.Count(text, "(") > maxFilterDepth {
		return nil, invalid("filter", "has more than %d parentheses", maxFilterDepth)
	}
	var parser filtering.Parser
	parser.Init(text)
	parsed, err := parser.Parse()
	if err != nil {
		return nil, invalid("filter", "%s", syntaxError(err, len(text)))
	}
	c := &filterReader{positions: parsed.GetSourceInfo().GetPositions(), definitions: slices.Clone(p.definitions)}
	filter, err := c.condition(parsed.GetExpr())
	if err != nil {
		return nil, err
	}
	for _, asked := range c.requestIDs {
		asked.resolve(p.name, c.definitions)
	}
	if err := filter.Validate(); err != nil {
		return nil, invalid("filter", "is invalid: %v", err)
	}
	return filter, nil
}

// syntaxError returns the innermost of the parser's nested errors, which has the position at which parsing stopped.
func syntaxError(err error, length int) string {
	at, message := int32(length), "ends too early"
	for ; err != nil; err = errors.Unwrap(err) {
		if errors.Is(err, io.EOF) && errors.Unwrap(err) == nil {
			at, message = int32(length), "ends too early"
		}
		var located interface {
			Position() filtering.Position
			Message() string
		}
		if errors.As(err, &located) {
			at, message = located.Position().Offset, "isn't a filter: "+located.Message()
		}
	}
	return message + " (at character " + strconv.Itoa(int(at)+1) +
		`); write, for example, state = "SUSPENDED" AND labels.customer = "customers/ada"`
}

// filterReader converts a parsed filter into a condition on rows.
type filterReader struct {
	positions   map[int64]int32
	definitions []string             // that sagas with a request id may have
	requestIDs  []requestIDCondition // to be resolved once all definitions are known
}

// requestIDCondition is a comparison with a request id.
type requestIDCondition struct {
	filter    *journal.Filter // whose operation is Equal or NotEqual
	requestID string
}

// resolve turns the condition into one on the ids that sagas with the request id have.
func (c requestIDCondition) resolve(name string, definitions []string) {
	slices.Sort(definitions)
	definitions = slices.Compact(definitions)
	join := journal.Or
	if c.filter.Op == journal.NotEqual {
		join = journal.And
	}
	ids := make([]*journal.Filter, 0, len(definitions))
	for _, definition := range definitions {
		id := engine.NewID(time.Time{}, name, definition, c.requestID)
		ids = append(ids, &journal.Filter{Op: c.filter.Op, Field: journal.FieldID, Text: id})
	}
	switch len(ids) {
	case 0:
		*c.filter = journal.Filter{Op: c.filter.Op, Field: journal.FieldID} // no saga has the empty id
	case 1:
		*c.filter = *ids[0]
	default:
		*c.filter = journal.Filter{Op: join, Args: ids}
	}
}

func (r *filterReader) wrong(at *expr.Expr, format string, args ...any) error {
	return invalid("filter", format+" (at character %d)", append(args, int(r.positions[at.GetId()])+1)...)
}

var comparisons = map[string]journal.FilterOp{
	filtering.FunctionEquals:        journal.Equal,
	filtering.FunctionNotEquals:     journal.NotEqual,
	filtering.FunctionLessThan:      journal.Less,
	filtering.FunctionLessEquals:    journal.LessOrEqual,
	filtering.FunctionGreaterThan:   journal.Greater,
	filtering.FunctionGreaterEquals: journal.GreaterOrEqual,
}

func (r *filterReader) condition(e *expr.Expr) (*journal.Filter, error) {
	call := e.GetCallExpr()
	if call == nil {
		return nil, r.wrong(
			e, `compares nothing: write a field, an operator and a value, for example, state = "RUNNING"`,
		)
	}
	switch call.GetFunction() {
	case filtering.FunctionAnd, filtering.FunctionFuzzyAnd:
		return r.combined(journal.And, call.GetArgs())
	case filtering.FunctionOr:
		return r.combined(journal.Or, call.GetArgs())
	case filtering.FunctionNot:
		return r.combined(journal.Not, call.GetArgs())
	case filtering.FunctionHas:
		return r.has(e, call.GetArgs())
	}
	op, known := comparisons[call.GetFunction()]
	if !known || len(call.GetArgs()) != 2 {
		return nil, r.wrong(e, "has the unknown function %q", untrusted.Shorten(call.GetFunction()))
	}
	return r.comparison(e, op, call.GetArgs()[0], call.GetArgs()[1])
}

func (r *filterReader) combined(op journal.FilterOp, args []*expr.Expr) (*journal.Filter, error) {
	filter := &journal.Filter{Op: op}
	for _, arg := range args {
		condition, err := r.condition(arg)
		if err != nil {
			return nil, err
		}
		if condition.Op == op && op != journal.Not {
			filter.Args = append(filter.Args, condition.Args...) // the parser nests a list of conditions in pairs
			continue
		}
		filter.Args = append(filter.Args, condition)
	}
	return filter, nil
}

// has converts labels:KEY and labels.KEY:VALUE. The value * matches any value.
func (r *filterReader) has(e *expr.Expr, args []*expr.Expr) (*journal.Filter, error) {
	if len(args) != 2 {
		return nil, r.wrong(e, "has an unreadable condition")
	}
	value, ok := textOf(args[1])
	if !ok {
		return nil, r.wrong(args[1], "asks for a value that isn't text: put it in quotes")
	}
	if args[0].GetIdentExpr().GetName() == "labels" {
		return hasLabel(value), nil
	}
	key, ok := labelKey(args[0])
	if !ok {
		return nil, r.wrong(e, `uses ":" with a field other than labels: write =, or labels:KEY`)
	}
	if value == "*" {
		return hasLabel(key), nil
	}
	return &journal.Filter{Op: journal.Equal, Field: journal.FieldLabel, Label: key, Text: value}, nil
}

// hasLabel returns a condition that holds for every value of a label, and only for rows that have the label.
func hasLabel(key string) *journal.Filter {
	return &journal.Filter{Op: journal.GreaterOrEqual, Field: journal.FieldLabel, Label: key}
}

// labelKey returns KEY of labels.KEY or labels."KEY".
func labelKey(e *expr.Expr) (string, bool) {
	selected := e.GetSelectExpr()
	if selected == nil || selected.GetOperand().GetIdentExpr().GetName() != "labels" {
		return "", false
	}
	return selected.GetField(), true
}

func (r *filterReader) comparison(e *expr.Expr, op journal.FilterOp, left, right *expr.Expr) (*journal.Filter, error) {
	filter := &journal.Filter{Op: op}
	field := left.GetIdentExpr().GetName()
	if key, ok := labelKey(left); ok {
		filter.Field, filter.Label = journal.FieldLabel, key
		return filter, r.text(filter, right)
	}
	if of, is := enums[field]; is {
		return filter, r.enum(of, filter, e, right)
	}
	switch field {
	case "definition":
		filter.Field = journal.FieldDefinition
		if err := r.text(filter, right); err != nil {
			return nil, err
		}
		if strings.Contains(filter.Text, "*") {
			return nil, r.wrong(
				right,
				`has a wildcard, which isn't supported for definitions: compare with the whole name, or use >= and <`,
			)
		}
		if op == journal.Equal {
			r.definitions = append(r.definitions, filter.Text)
		}
		return filter, nil
	case "request_id":
		return filter, r.requestID(filter, e, right)
	case "create_time":
		filter.Field = journal.FieldCreateTime
		return filter, r.time(filter, right)
	case "update_time":
		filter.Field = journal.FieldUpdateTime
		return filter, r.time(filter, right)
	case "labels":
		return nil, r.wrong(left, `compares all labels: write labels.KEY, or labels:KEY`)
	}
	if name, ok := textOf(left); ok {
		field = name
	}
	if after, ok := strings.CutPrefix(field, "labels."); ok {
		return nil, r.wrong(
			left, `has a label with dots in its key: put the key in quotes, labels.%q`, untrusted.Shorten(after),
		)
	}
	return nil, r.wrong(
		left,
		"has the unknown field %q: want definition, state, suspension_reason, request_id, create_time, "+
			"update_time or labels.KEY",
		untrusted.Shorten(field),
	)
}

func (r *filterReader) requestID(filter *journal.Filter, e, value *expr.Expr) error {
	if filter.Op != journal.Equal && filter.Op != journal.NotEqual {
		return r.wrong(e, "orders request ids: compare them with = or != only")
	}
	text, ok := textOf(value)
	switch {
	case !ok:
		return r.wrong(value, "compares with a value that isn't text: put it in quotes")
	case text == "":
		return r.wrong(value, "compares with an empty request id: sagas without one can't be searched for")
	}
	r.requestIDs = append(r.requestIDs, requestIDCondition{filter: filter, requestID: text})
	return nil
}

func (r *filterReader) text(filter *journal.Filter, value *expr.Expr) error {
	text, ok := textOf(value)
	if !ok {
		return r.wrong(value, "compares with a value that isn't text: put it in quotes")
	}
	filter.Text = text
	return nil
}

// textOf returns a value as text. The value may be quoted, a name without quotes, or an integer.
func textOf(e *expr.Expr) (string, bool) {
	switch kind := e.GetExprKind().(type) {
	case *expr.Expr_ConstExpr:
		switch constant := kind.ConstExpr.GetConstantKind().(type) {
		case *expr.Constant_StringValue:
			return constant.StringValue, true
		case *expr.Constant_Int64Value:
			return strconv.FormatInt(constant.Int64Value, 10), true
		}
	case *expr.Expr_IdentExpr:
		return kind.IdentExpr.GetName(), true
	case *expr.Expr_SelectExpr:
		operand, ok := textOf(kind.SelectExpr.GetOperand())
		return operand + "." + kind.SelectExpr.GetField(), ok
	}
	return "", false
}

// enum is a field whose values are names.
type enum struct {
	field  journal.FilterField
	what   string // for messages
	prefix string // that the value may have
	names  []string
}

// enums are the fields whose values are names.
var enums = map[string]enum{
	"state": {journal.FieldState, "state", "SAGA_STATE_", namesOf(treatyv1.SagaState_name, "SAGA_STATE_")},
	"suspension_reason": {
		journal.FieldSuspension, "reason", "SUSPENSION_REASON_",
		namesOf(treatyv1.SuspensionReason_name, "SUSPENSION_REASON_"),
	},
}

// namesOf returns the names of the values of an enum except the first, without their prefix, sorted by number.
func namesOf(names map[int32]string, prefix string) []string {
	var out []string
	for _, number := range slices.Sorted(maps.Keys(names))[1:] {
		out = append(out, strings.TrimPrefix(names[number], prefix))
	}
	return out
}

func (r *filterReader) enum(of enum, filter *journal.Filter, e, value *expr.Expr) error {
	filter.Field = of.field
	if filter.Op != journal.Equal && filter.Op != journal.NotEqual {
		return r.wrong(e, "orders %ss: compare them with = or != only", of.what)
	}
	if err := r.text(filter, value); err != nil {
		return err
	}
	filter.Text = strings.TrimPrefix(filter.Text, of.prefix)
	if !slices.Contains(of.names, filter.Text) {
		return r.wrong(value, "has the unknown %s %q: want one of %s", of.what, untrusted.Shorten(filter.Text),
			strings.Join(of.names, ", "))
	}
	return nil
}

func (r *filterReader) time(filter *journal.Filter, value *expr.Expr) error {
	if call := value.GetCallExpr(); call.GetFunction() == filtering.FunctionTimestamp && len(call.GetArgs()) == 1 {
		value = call.GetArgs()[0]
	}
	text, _ := textOf(value)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return r.wrong(
			value, `compares with %q, which isn't a time: write it as "2026-01-31T12:00:00Z"`, untrusted.Shorten(text),
		)
	}
	filter.Time = at.UTC()
	return nil
}
