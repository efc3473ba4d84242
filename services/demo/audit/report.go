package audit

import (
	"fmt"
	"slices"
	"strings"
)

// Invariant is the number of one of the promises.
type Invariant int

// The invariants that can be checked from outside. The others need other epochs and timers.
const (
	AcknowledgedIsFinal       Invariant = 1
	AllOrNothing              Invariant = 2
	OneEffect                 Invariant = 3
	ReverseOrder              Invariant = 4
	NoActionAfterCompensation Invariant = 5
	NullCompensationIsNoOp    Invariant = 6
	NothingAfterTheEnd        Invariant = 7
	DurableBeforeSent         Invariant = 8
	NeverReversed             Invariant = 10
)

var invariantTexts = map[Invariant]string{
	AcknowledgedIsFinal:       "an acknowledged start exists and is final",
	AllOrNothing:              "all steps done, or all that may have run compensated",
	OneEffect:                 "at most one effect per saga, step and direction",
	ReverseOrder:              "compensations in reverse order",
	NoActionAfterCompensation: "no action takes effect after its compensation",
	NullCompensationIsNoOp:    "a compensation without its action is a durable no-op",
	NothingAfterTheEnd:        "no command after a final state",
	DurableBeforeSent:         "every command is durable before it is sent",
	NeverReversed:             "a decision to compensate is never reversed",
}

// Invariants returns all invariants that Check checks, in order.
func Invariants() []Invariant {
	return []Invariant{
		AcknowledgedIsFinal, AllOrNothing, OneEffect, ReverseOrder, NoActionAfterCompensation,
		NullCompensationIsNoOp, NothingAfterTheEnd, DurableBeforeSent, NeverReversed,
	}
}

// String returns the invariant's number and text.
func (i Invariant) String() string { return fmt.Sprintf("%2d %s", int(i), invariantTexts[i]) }

// Violation is a broken promise.
type Violation struct {
	// Invariant is the broken promise.
	Invariant Invariant

	// Subject is a saga, a command or a resource.
	Subject string

	// Text describes the violation.
	Text string
}

// String returns one line for a report.
func (v Violation) String() string {
	return fmt.Sprintf("invariant %d: %s: %s", int(v.Invariant), v.Subject, v.Text)
}

// Report is the result of an audit.
type Report struct {
	// Violations are sorted by invariant.
	Violations []Violation

	// Counts summarize the facts.
	Counts Counts

	// Lost are the names of the sagas that the orchestrator lists as lost.
	Lost []string

	// ByHand are the commands whose effects stand although their sagas don't know them any more, since the sagas' store
	// was restored. The orchestrator showed them to the person who let their sagas continue.
	ByHand []string

	// Orphans are the records of a third party that no command caused, since their sagas were lost while the command
	// was executed. Nobody can know them.
	Orphans []string
}

// Counts say how much was audited.
type Counts struct {
	// Acknowledged counts the starts, and Told those whose clients learned the end.
	Acknowledged, Told int

	// Sagas counts the orchestrator's sagas, Succeeded and Compensated those with that end, and Cancelled those of the
	// latter that were cancelled.
	Sagas, Succeeded, Compensated, Cancelled int

	// Records counts the records of the journals. Attempts counts the attempts in them: those of the orchestrator
	// process that received the outcome.
	Records, Attempts int

	// Commands counts the rows of the ledgers, Executed and so on those with that verdict, and Undone the executed
	// compensations.
	Commands, Executed, Undone, Refused, NullCompensated, RefusedLate int

	// Duplicates counts the calls that were answered with a stored answer.
	Duplicates int64

	// Accepted counts the rows of commands that were accepted and not completed.
	Accepted int

	// Children counts the child sagas, and Reopened those of them that were compensated after they had succeeded.
	Children, Reopened int

	// Scopes counts the scopes that were compensated while their saga continued, Broadcasts the commands to several
	// participants, and Restarted the sagas in a later round than the first.
	Scopes, Broadcasts, Restarted int

	// Woken counts the waits that ended with an event, and Expired those that ended without the awaited event.
	Woken, Expired int

	// Unknown counts the steps with an unknown outcome.
	Unknown int

	// InDoubt counts the steps that were refused although an earlier attempt may have run.
	InDoubt int

	// Effects counts the records in the participants' own tables.
	Effects int

	// Restored counts the sagas that were open in a restored store, or that were started again after their start was
	// lost. CaughtUp counts those of them whose participants knew more than the journal and that continued without a
	// person, and DecidedByPerson those that a person resumed.
	Restored, CaughtUp, DecidedByPerson int

	// EndedOtherwise counts the sagas whose client was told another end before the store was restored.
	EndedOtherwise int
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

// String returns a report for people: the counts, a line for each invariant, and the violations.
func (r *Report) String() string {
	var b strings.Builder
	c := r.Counts
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-22s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("acknowledged starts", "%d (%d clients learned the end)", c.Acknowledged, c.Told)
	line("sagas", "%d: %d succeeded, %d compensated (%d of them cancelled)", c.Sagas, c.Succeeded, c.Compensated,
		c.Cancelled)
	line("journal records", "%d, with %d attempts", c.Records, c.Attempts)
	line("commands in ledgers", "%d: %d executed, %d of them compensations; %d refused", c.Commands, c.Executed,
		c.Undone,
		c.Refused)
	line("duplicates", "%d answered from the inbox", c.Duplicates)
	line("null compensations", "%d", c.NullCompensated)
	line("refused late", "%d", c.RefusedLate)
	line("unknown outcomes", "%d; %d refused in doubt", c.Unknown, c.InDoubt)
	line("the saga language", "%d children (%d compensated after they succeeded), %d scopes compensated, "+
		"%d broadcasts, %d in later rounds", c.Children, c.Reopened, c.Scopes, c.Broadcasts, c.Restarted)
	line("awaited events", "%d received, %d timed out", c.Woken, c.Expired)
	line("effects in tables", "%d", c.Effects)
	if c.Restored > 0 {
		line("restored", "%d sagas: %d caught up, %d were decided by a person; %d ended otherwise than their clients "+
			"had been told", c.Restored, c.CaughtUp, c.DecidedByPerson, c.EndedOtherwise)
		line("lost", "%d sagas %v", len(r.Lost), r.Lost)
		line("orphans", "%d records of a third party %v", len(r.Orphans), r.Orphans)
		line("left to a person", "%d commands %v", len(r.ByHand), r.ByHand)
	}
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

// add adds a violation.
func (r *Report) add(i Invariant, subject, format string, args ...any) {
	r.Violations = append(r.Violations, Violation{Invariant: i, Subject: subject, Text: fmt.Sprintf(format, args...)})
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Violations, func(a, b Violation) int { return int(a.Invariant) - int(b.Invariant) })
}
