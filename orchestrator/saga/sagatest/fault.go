package sagatest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// place is where a fault happens: a command, a durable turn of a saga, or an event that is published.
type place struct {
	what placeKind

	// where is the path of the step, the number of the turn, or the number of the event, each with the path of the
	// child saga before it, e.g. "3/2" for step 2 of the child that is step 3.
	where string
}

type placeKind string

const (
	atAction       placeKind = "action"
	atCompensation placeKind = "compensation"
	atTurn         placeKind = "turn"
	atEvent        placeKind = "event"
)

func (p place) String() string { return string(p.what) + " " + p.where }

// fault is what happens at a place.
type fault struct {
	place place
	kind  faultKind

	// rejection is the full name of the rejection, for rejects.
	rejection string

	// timer is the number of the timer before or after which an event arrives, from 1, and at names it for the failure
	// matrix.
	timer int
	at    string
}

type faultKind string

const (
	// Of an action.
	rejects     faultKind = "reject"
	refuses     faultKind = "refuse"
	givenUpDone faultKind = "lose all replies"
	givenUp     faultKind = "lose all requests"

	// Of an action or a compensation.
	losesReply   faultKind = "lose reply"
	losesRequest faultKind = "lose request"
	duplicates   faultKind = "duplicate"
	delays       faultKind = "arrive late"

	// Of a turn.
	crashesBefore faultKind = "crash before"
	crashesAfter  faultKind = "crash after"
	cancels       faultKind = "cancel"

	// Of an event.
	eventBefore faultKind = "arrive before timer"
	eventAfter  faultKind = "arrive after timer"
	eventNever  faultKind = "never arrive"
)

// kinds are the faults of each kind of place.
var kinds = map[placeKind][]faultKind{
	atAction:       {rejects, refuses, givenUpDone, givenUp, losesReply, losesRequest, duplicates, delays},
	atCompensation: {losesReply, losesRequest, duplicates, delays},
	atTurn:         {crashesBefore, crashesAfter, cancels},
	atEvent:        {eventBefore, eventAfter, eventNever},
}

func (f fault) String() string {
	text := f.place.String() + ": " + string(f.kind)
	if f.kind == rejects {
		text += " " + f.rejection
	}
	if f.timer > 0 {
		text += " " + strconv.Itoa(f.timer)
	}
	return text
}

// formatScript returns faults as lines.
func formatScript(faults []fault) string {
	var lines []string
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// parseScript reads faults, one per line. Empty lines are left out. The error names the line.
func parseScript(script string) ([]fault, error) {
	var faults []fault
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f, err := parseFault(line)
		if err != nil {
			return nil, fmt.Errorf("line %d of the script, %q: %w", i+1, line, err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

func parseFault(line string) (fault, error) {
	at, kind, found := strings.Cut(line, ": ")
	what, where, placed := strings.Cut(at, " ")
	if !found || !placed || where == "" {
		return fault{}, fmt.Errorf("it isn't \"PLACE NUMBER: FAULT\", such as \"action 2: %s\"", losesReply)
	}
	f := fault{place: place{placeKind(what), where}, kind: faultKind(kind)}
	allowed := kinds[f.place.what]
	if allowed == nil {
		return fault{}, fmt.Errorf("there is no place %q; there are %s, %s, %s and %s", what, atAction, atCompensation,
			atTurn, atEvent)
	}
	if rejection, is := strings.CutPrefix(kind, string(rejects)+" "); is {
		f.kind, f.rejection = rejects, rejection
	}
	for _, timed := range []faultKind{eventBefore, eventAfter} {
		if number, is := strings.CutPrefix(kind, string(timed)+" "); is {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 {
				return fault{}, fmt.Errorf("%q isn't the number of a timer, from 1", number)
			}
			f.kind, f.timer = timed, n
		}
	}
	if (f.kind == eventBefore || f.kind == eventAfter) && f.timer == 0 {
		return fault{}, fmt.Errorf("it doesn't say which timer, such as \"event 1: %s 1\"", f.kind)
	}
	if !slices.Contains(allowed, f.kind) || (f.kind == rejects) != (f.rejection != "") {
		return fault{}, fmt.Errorf("there is no fault %q of %s; there are %q", kind, what, allowed)
	}
	if f.kind == rejects {
		if _, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(f.rejection)); err != nil {
			return fault{}, fmt.Errorf("no linked contract has the rejection %s; use its full name", f.rejection)
		}
	}
	return f, nil
}

// faultsOf returns the faults of a command, given its contract.
func (w *World) faultsOf(c *Command, at place) []fault {
	of := func(kinds ...faultKind) (faults []fault) {
		for _, kind := range kinds {
			faults = append(faults, fault{place: at, kind: kind})
		}
		return faults
	}
	if c.Compensation {
		return of(kinds[atCompensation]...)
	}
	faults := of(losesReply, losesRequest, duplicates, delays)
	command, ok := w.catalog.Command(c.Method)
	if !ok || command.Kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return faults
	}
	for _, rejection := range command.Rejections {
		faults = append(faults, fault{place: at, kind: rejects, rejection: string(rejection)})
	}
	faults = append(faults, of(refuses)...)
	if command.Retry.GiveUpAfter > 0 {
		faults = append(faults, of(givenUpDone, givenUp)...)
	}
	return faults
}
