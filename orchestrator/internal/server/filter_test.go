package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func TestFilters(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	state := func(op journal.FilterOp, name string) *journal.Filter {
		return &journal.Filter{Op: op, Field: journal.FieldState, Text: name}
	}
	suspension := func(op journal.FilterOp, name string) *journal.Filter {
		return &journal.Filter{Op: op, Field: journal.FieldSuspension, Text: name}
	}
	label := func(op journal.FilterOp, key, value string) *journal.Filter {
		return &journal.Filter{Op: op, Field: journal.FieldLabel, Label: key, Text: value}
	}
	join := func(op journal.FilterOp, args ...*journal.Filter) *journal.Filter {
		return &journal.Filter{Op: op, Args: args}
	}
	parser := filterParser{name: "cards", definitions: []string{"a.v1.Sagas/Do", "a.v1.Sagas/Go"}}
	id := func(op journal.FilterOp, definition string) *journal.Filter {
		return &journal.Filter{
			Op: op, Field: journal.FieldID, Text: engine.NewID(time.Time{}, "cards", definition, "r-1"),
		}
	}
	does, goes := id(journal.Equal, "a.v1.Sagas/Do"), id(journal.Equal, "a.v1.Sagas/Go")
	old := &journal.Filter{Op: journal.Equal, Field: journal.FieldDefinition, Text: "a.v1.Sagas/Old"}
	running, customer := state(journal.Equal, "RUNNING"), label(journal.Equal, "customer", "customers/ada")
	for text, want := range map[string]*journal.Filter{
		``:                               nil,
		`  `:                             nil,
		`state = "RUNNING"`:              running,
		`state = RUNNING`:                running,
		`state = "SAGA_STATE_RUNNING"`:   running,
		`(state = "RUNNING")`:            running,
		`state != "SUSPENDED"`:           state(journal.NotEqual, "SUSPENDED"),
		`suspension_reason = "RESTORED"`: suspension(journal.Equal, "RESTORED"),
		`suspension_reason != SUSPENSION_REASON_PIVOT_PENDING`: suspension(journal.NotEqual, "PIVOT_PENDING"),
		`definition = "a.v1.Sagas/Do"`: {
			Op: journal.Equal, Field: journal.FieldDefinition, Text: "a.v1.Sagas/Do",
		},
		`definition = a.v1.Sagas/Do`: {
			Op: journal.Equal, Field: journal.FieldDefinition, Text: "a.v1.Sagas/Do",
		},
		`definition >= "a."`: {
			Op: journal.GreaterOrEqual, Field: journal.FieldDefinition, Text: "a.",
		},
		`labels.customer="customers/ada"`:      customer,
		`labels."customer" = 'customers/ada'`:  customer,
		`labels."a.b" < "x"`:                   label(journal.Less, "a.b", "x"),
		`labels.n = 5`:                         label(journal.Equal, "n", "5"),
		`labels.n = -5`:                        label(journal.Equal, "n", "-5"),
		`labels.star = "a*"`:                   label(journal.Equal, "star", "a*"),
		`labels:customer`:                      label(journal.GreaterOrEqual, "customer", ""),
		`labels:"a.b"`:                         label(journal.GreaterOrEqual, "a.b", ""),
		`labels.customer:*`:                    label(journal.GreaterOrEqual, "customer", ""),
		`labels.customer:"customers/ada"`:      customer,
		`create_time > "2026-01-31T12:00:00Z"`: {Op: journal.Greater, Field: journal.FieldCreateTime, Time: at},
		`update_time <= timestamp("2026-01-31T13:00:00+01:00")`: {
			Op: journal.LessOrEqual, Field: journal.FieldUpdateTime, Time: at,
		},
		`request_id = "r-1"`: join(journal.Or, does, goes),
		`request_id != "r-1"`: join(
			journal.And, id(journal.NotEqual, "a.v1.Sagas/Do"), id(journal.NotEqual, "a.v1.Sagas/Go"),
		),
		`request_id = "r-1" AND definition = "a.v1.Sagas/Old"`: join(
			journal.And, join(journal.Or, does, goes, id(journal.Equal, "a.v1.Sagas/Old")), old,
		),
		`NOT state = "RUNNING"`: join(journal.Not, running),
		`-state = "RUNNING"`:    join(journal.Not, running),
		`state = "RUNNING" AND labels.customer = "customers/ada"`: join(
			journal.And, running, customer,
		),
		`state = "RUNNING" labels.customer = "customers/ada"`: join(
			journal.And, running, customer,
		),
		`state = "RUNNING" AND state = "RUNNING" AND state = "RUNNING"`: join(
			journal.And, running, running, running,
		),
		`state = "RUNNING" AND labels.customer = "customers/ada" OR labels:customer`: join(
			journal.And, running, join(journal.Or, customer, label(journal.GreaterOrEqual, "customer", "")),
		),
		`NOT (state = "RUNNING" OR state = "RUNNING")`: join(
			journal.Not, join(journal.Or, running, running),
		),
		`NOT (NOT state = "RUNNING")`: join(
			journal.Not, join(journal.Not, running),
		),
	} {
		got, err := parser.parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// TestRequestIDFilters checks filters of request ids at orchestrators that run fewer than two definitions.
func TestRequestIDFilters(t *testing.T) {
	for _, definitions := range [][]string{{}, {"a.v1.Sagas/Do"}} {
		want := &journal.Filter{Op: journal.Equal, Field: journal.FieldID}
		for _, definition := range definitions {
			want.Text = engine.NewID(time.Time{}, "", definition, "r-1")
		}
		got, err := filterParser{definitions: definitions}.parse(`request_id = "r-1"`)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%d definitions: %v (-want +got):\n%s", len(definitions), err, diff)
		}
	}
}

func TestWrongFilters(t *testing.T) {
	var parser filterParser
	for text, want := range map[string]string{
		`state`:                               "compares nothing",
		`"RUNNING"`:                           "compares nothing",
		`state =`:                             "ends too early (at character 8)",
		`state = "RUNNING`:                    "unterminated string (at character 9)",
		`state = "RUNNING" AND`:               "(at character",
		`(state = "RUNNING"`:                  "(at character",
		`state = "ASLEEP"`:                    `unknown state "ASLEEP"`,
		`state > "RUNNING"`:                   "orders states",
		`suspension_reason = "BORED"`:         `unknown reason "BORED": want one of PANIC, MISMATCH`,
		`suspension_reason = "UNSPECIFIED"`:   "unknown reason",
		`suspension_reason > "PANIC"`:         "orders reasons",
		`suspension_reason = 1.5`:             "isn't text",
		`suspension_reason:"PANIC"`:           `uses ":" with a field other than labels`,
		`state:"RUNNING"`:                     `uses ":" with a field other than labels`,
		`state = 1.5`:                         "isn't text",
		`name = "sagas/a"`:                    `unknown field "name"`,
		`a.b = "c"`:                           `unknown field "a.b"`,
		`request_id > "r-1"`:                  "orders request ids",
		`request_id = ""`:                     "empty request id",
		`request_id = 1.5`:                    "isn't text",
		`request_id:"r-1"`:                    `uses ":" with a field other than labels`,
		`labels = "x"`:                        "compares all labels",
		`labels.a.b = "x"`:                    `labels."a.b"`,
		`definition = "acme.*"`:               "wildcard",
		`create_time > "yesterday"`:           "which isn't a time",
		`create_time > 5`:                     "which isn't a time",
		`create_time > duration("5s")`:        "which isn't a time",
		`has(labels.x)`:                       "unknown function",
		`labels.x = lower("X")`:               "isn't text",
		`labels:(a b)`:                        "isn't text",
		strings.Repeat("x", 5000):             "at most 4096",
		strings.Repeat("(", 51) + "state":     "parentheses",
		strings.Repeat(`state=RUNNING `, 260): "more than",
	} {
		filter, err := parser.parse(text)
		if err == nil {
			t.Errorf("%.60s is %+v", text, filter)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v; want %q in it", text, err, want)
		}
		var p *apiError
		if !errors.As(err, &p) || len(p.violations) != 1 || p.violations[0].GetField() != "filter" {
			t.Errorf("%.60s: %v isn't a violation of the field filter", text, err)
		}
	}
}

// Every store can evaluate a filter that the parser accepts.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`state = "RUNNING" AND labels.customer = "customers/ada"`, `NOT (a OR -b)`, `labels."a.b":*`,
		`create_time > timestamp("2026-01-31T12:00:00Z")`,
		`f(f(f(f(`, `a.b.c.1.2 != -0x1F`, "\"\\\"", `state = "RUNNING" state != 'X'`,
	} {
		f.Add(seed)
	}
	f.Add(`request_id = "r-1" OR definition = a.v1.Sagas/Old`)
	parser := filterParser{definitions: []string{"a.v1.Sagas/Do", "a.v1.Sagas/Go"}}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := parser.parse(text)
		if err == nil && filter != nil {
			err = filter.Validate()
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
