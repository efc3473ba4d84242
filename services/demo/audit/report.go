package audit

import (
	"fmt"
	"slices"
	"strings"
)

// Invariant is one of the promises, by its number.
type Invariant int

// The invariants that can be checked from outside without other epochs and timers.
const (
	AcknowledgedIsFinal    Invariant = 1
	AllOrNothing           Invariant = 2
	OneEffect              Invariant = 3
	ReverseOrder           Invariant = 4
	NoActionAfterUndo      Invariant = 5
	NullCompensationIsNoOp Invariant = 6
	NothingAfterTheEnd     Invariant = 7
	DurableBeforeSent      Invariant = 8
	NeverReversed          Invariant = 10
)

var invariantTexts = map[Invariant]string{
	AcknowledgedIsFinal:    "an acknowledged start exists and is final",
	AllOrNothing:           "every step done, or every one that may have run undone",
	OneEffect:              "at most one effect per saga, step and direction",
	ReverseOrder:           "compensations in reverse order",
	NoActionAfterUndo:      "no action takes effect after its compensation",
	NullCompensationIsNoOp: "an undo without its action is a durable no-op",
	NothingAfterTheEnd:     "no command after a final state",
	DurableBeforeSent:      "every command is durable before it is sent",
	NeverReversed:          "a decision to compensate is never reversed",
}

// Invariants returns all that are checked, in order.
func Invariants() []Invariant {
	return []Invariant{
		AcknowledgedIsFinal, AllOrNothing, OneEffect, ReverseOrder, NoActionAfterUndo,
		NullCompensationIsNoOp, NothingAfterTheEnd, DurableBeforeSent, NeverReversed,
	}
}

// String says what the invariant promises.
func (i Invariant) String() string { return fmt.Sprintf("%2d %s", int(i), invariantTexts[i]) }

// Violation is a promise that wasn't kept.
type Violation struct {
	// Invariant is the promise.
	Invariant Invariant

	// Subject is whom it is about: a saga, a command or a resource.
	Subject string

	// Text says what was found.
	Text string
}

// String is one line for a report.
func (v Violation) String() string {
	return fmt.Sprintf("invariant %d: %s: %s", int(v.Invariant), v.Subject, v.Text)
}

// Report is what an audit found.
type Report struct {
	// Violations are in the order of the invariants.
	Violations []Violation

	// Counts say what the facts held.
	Counts Counts
}

// Counts say how much was audited, and how hard it was for the system.
type Counts struct {
	// Acknowledged counts the starts, Told those whose clients were told the end.
	Acknowledged, Told int

	// Sagas counts the orchestrator's sagas, Succeeded and Compensated those that ended so, Cancelled those of them
	// that somebody cancelled.
	Sagas, Succeeded, Compensated, Cancelled int

	// Records counts the journals' records, Attempts the calls that they tell of: those of the orchestrator process
	// that heard the end.
	Records, Attempts int

	// Commands counts the ledgers' rows, Executed and so on those with that verdict; Undone the executed compensations.
	Commands, Executed, Undone, Refused, NullCompensated, RefusedLate int

	// Duplicates counts the calls that got a stored answer.
	Duplicates int64

	// Accepted counts the ledgers' rows of commands that their participants accepted and didn't complete.
	Accepted int

	// Children counts the sagas that are steps of others, Reopened those of them that were undone after they had
	// succeeded.
	Children, Reopened int

	// Scopes counts those that failed and were undone while their saga went on, Broadcasts the commands to several
	// participants, Restarted the sagas that are in a later round than the first.
	Scopes, Broadcasts, Restarted int

	// Woken counts the waits that ended with an event, Expired those that awaited one in vain.
	Woken, Expired int

	// Unknown counts the steps whose outcome stayed unknown.
	Unknown int

	// Effects counts what the participants' tables hold.
	Effects int
}

// Of returns the violations of one invariant.
func (r *Report) Of(i Invariant) []Violation {
	var of []Violation
	for _, v := range r.Violations {
		if v.Invariant == i {
			of = append(of, v)
		}
	}
	return of
}

// String is the report for people: the counts, a line for each invariant, and the violations.
func (r *Report) String() string {
	var b strings.Builder
	c := r.Counts
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-22s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("acknowledged starts", "%d (%d told their end)", c.Acknowledged, c.Told)
	line("sagas", "%d: %d succeeded, %d compensated (%d of them cancelled)", c.Sagas, c.Succeeded, c.Compensated,
		c.Cancelled)
	line("journal records", "%d, which tell of %d attempts", c.Records, c.Attempts)
	line("commands in ledgers", "%d: %d executed, %d of them undoing; %d refused", c.Commands, c.Executed, c.Undone,
		c.Refused)
	line("duplicates", "%d answered from the inbox", c.Duplicates)
	line("null compensations", "%d", c.NullCompensated)
	line("refused late", "%d", c.RefusedLate)
	line("unknown outcomes", "%d", c.Unknown)
	line("the saga language", "%d children (%d undone after they succeeded), %d scopes undone, %d broadcasts, %d in later rounds", c.Children, c.Reopened, c.Scopes, c.Broadcasts, c.Restarted)
	line("awaited events", "%d came, %d in vain", c.Woken, c.Expired)
	line("effects in tables", "%d", c.Effects)
	b.WriteString("  violations\n")
	for _, i := range Invariants() {
		fmt.Fprintf(&b, "    %-58s %d\n", i, len(r.Of(i)))
	}
	const shown = 40
	for n, v := range r.Violations {
		if n == shown {
			fmt.Fprintf(&b, "  ... and %d more\n", len(r.Violations)-shown)
			break
		}
		fmt.Fprintf(&b, "  %s\n", v)
	}
	return b.String()
}

// add notes a violation.
func (r *Report) add(i Invariant, subject, format string, args ...any) {
	r.Violations = append(r.Violations, Violation{Invariant: i, Subject: subject, Text: fmt.Sprintf(format, args...)})
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Violations, func(a, b Violation) int { return int(a.Invariant) - int(b.Invariant) })
}
