package sagatest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// story is what a run for the golden file showed, apart from its outcome.
type story struct {
	view     *treatyv1.Saga
	turns    []sagaTurn
	events   []string          // the types of those that were published
	timers   int               // how many began
	children map[string]string // by saga id: the path of a child before its own paths
	undone   []undo
	resumed  []treatyv1.SuspensionReason
}

// story returns what the run showed.
func (d *drive) story(view *treatyv1.Saga) *story {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.world.participants.mu.Lock()
	defer d.world.participants.mu.Unlock()
	return &story{
		view: view, turns: d.turns, events: d.titles, timers: len(d.timers), children: d.names,
		undone: d.world.participants.undone, resumed: d.resumed,
	}
}

// short returns the last part of the name of a method or message.
func short(name string) string { return name[strings.LastIndexAny(name, "./")+1:] }

// pathIn returns the path of a command, with that of its child saga before it.
func (s *story) pathIn(command *Command) string {
	return s.children[strings.TrimPrefix(command.saga, wire.SagaName(""))] + command.Step
}

// result is what a run came to, as the matrix shows it.
type result struct {
	undone, ends, reason string
}

// theRefusal is the error of a saga that ends with what the participant said.
const theRefusal = "the refusal"

// resultOf compares a run with the one without faults.
func resultOf(out, first outcome) result {
	r := result{undone: undone(out), ends: stateName(out.state), reason: reasonOf(out.story.view.GetFailure())}
	if len(out.faults) > 0 {
		refusal := strings.TrimSpace("FAILED_PRECONDITION " + short(out.faults[0].rejection))
		if kind := out.faults[0].kind; r.reason == refusal && (kind == rejects || kind == refuses) {
			r.reason = theRefusal
		}
	}
	for i := range out.story.resumed {
		reason := out.story.resumed[len(out.story.resumed)-1-i]
		r.ends = fmt.Sprintf("SUSPENDED: %s; when resumed, %s",
			strings.TrimPrefix(reason.String(), "SUSPENSION_REASON_"), r.ends)
	}
	if out.state != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		return r
	}
	had, has := actions(first), actions(out)
	more, less := without(has, had), without(had, has)
	for _, name := range slices.Clone(more) {
		moved := slices.IndexFunc(less, func(other string) bool { return sameBranch(name) == sameBranch(other) })
		if moved >= 0 {
			more = slices.DeleteFunc(more, func(other string) bool { return other == name })
			less = slices.Delete(less, moved, moved+1)
		}
	}
	if len(more) > 0 {
		r.ends += ", with " + strings.Join(more, ", ")
	}
	if len(less) > 0 {
		r.ends += ", without " + strings.Join(less, ", ")
	}
	return r
}

// sameBranch returns the name of an action without its position: "CheckCredit (2.1" for "CheckCredit (2.1.3)". After a
// way that sends more or fewer commands, actions have other positions.
func sameBranch(name string) string {
	return name[:max(strings.LastIndexAny(name, "./"), strings.IndexByte(name, '('))]
}

// actions returns the actions that a run sent, in the order of their paths.
func actions(out outcome) []string {
	var sent []*Command
	for _, command := range out.commands {
		if !command.Compensation {
			sent = append(sent, command)
		}
	}
	slices.SortStableFunc(sent, func(a, b *Command) int {
		return comparePaths(out.story.pathIn(a), out.story.pathIn(b))
	})
	var names []string
	for _, command := range sent {
		names = append(names, short(command.Method)+" ("+out.story.pathIn(command)+")")
	}
	return names
}

// without returns what is in a and not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return slices.Contains(b, name) })
}

// reasonOf returns the code of a saga's error, and the types of its details.
func reasonOf(failure *treatyv1.Failure) string {
	if failure == nil {
		return ""
	}
	return strings.TrimSpace(code.Code(failure.GetCode()).String() + " " + detailsOf(failure))
}

// detailsOf returns the types of an error's details.
func detailsOf(failure *treatyv1.Failure) string {
	var details []string
	for _, detail := range failure.GetDetails() {
		cause := new(treatyv1.Failure)
		if detail.UnmarshalTo(cause) == nil { // of a child saga
			details = append(details, "("+reasonOf(cause)+")")
			continue
		}
		details = append(details, short(string(detail.MessageName())))
	}
	return strings.Join(details, " ")
}

// undone returns the compensations that a run sent, in their order. Those of steps of which none came before the other
// stand together, sorted, since their order depends on chance.
func undone(out outcome) string {
	var levels [][]*Command
	for _, command := range out.commands {
		if !command.Compensation {
			continue
		}
		level := 0
		for i, before := range levels {
			for _, other := range before {
				if follows(out.story.pathIn(other), out.story.pathIn(command)) {
					level = i + 1
				}
			}
		}
		if level == len(levels) {
			levels = append(levels, nil)
		}
		levels[level] = append(levels[level], command)
	}
	var texts []string
	for _, level := range levels {
		texts = append(texts, sideBySide(out, level))
	}
	return strings.Join(texts, " → ")
}

// sideBySide returns the names of compensations, each with its number if there are several of it.
func sideBySide(out outcome, commands []*Command) string {
	slices.SortStableFunc(commands, func(a, b *Command) int {
		return comparePaths(out.story.pathIn(a), out.story.pathIn(b))
	})
	var names []string
	count := make(map[string]int)
	for _, command := range commands {
		name := short(command.Method)
		if !slices.ContainsFunc(out.story.undone, func(u undo) bool {
			return u.saga == command.saga && u.step == command.Step
		}) {
			name += " (null)"
		}
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	for i, name := range names {
		if n := count[name]; n > 1 {
			names[i] = fmt.Sprintf("%d × %s", n, name)
		}
	}
	return strings.Join(names, " + ")
}

// follows reports whether of two steps one came after the other in every run.
func follows(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return precedes(as[i], bs[i]) || precedes(bs[i], as[i])
		}
	}
	return true
}

// comparePaths compares two paths, each perhaps with that of a child saga before it.
func comparePaths(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "/"), strings.Split(b, "/"), func(a, b string) int {
		return cmp.Or(cmp.Compare(machine.RoundOf(a), machine.RoundOf(b)), slices.Compare(numbersOf(a), numbersOf(b)))
	})
}

// transient are the faults that sagas shouldn't notice.
var transient = []struct {
	kind faultKind
	name string
}{
	{losesRequest, "a request that is lost once"}, {losesReply, "a reply that is lost once"},
	{duplicates, "a command that arrives twice"}, {delays, "a copy of a command that arrives after the end"},
	{crashesBefore, "a crash just before a turn is durable"}, {crashesAfter, "a crash just after a turn is durable"},
}

// faultNames are the faults in the words of the matrix.
var faultNames = map[faultKind]string{
	refuses: "refused without details", givenUpDone: "given up, executed", givenUp: "given up, not executed",
	losesRequest: "request lost once", losesReply: "reply lost once", duplicates: "arrives twice",
	delays: "a copy arrives after the end", crashesBefore: "crash before", crashesAfter: "crash after",
	eventNever: "never comes", eventBefore: "comes just before the end of", eventAfter: "comes just after the end of",
}

// maxTimers is more than a run has timers.
const maxTimers = 1 << 20

// row is a row of the matrix.
type row struct {
	where, what string
	result
	order int // of an event
}

// matrix returns the failure matrix as Markdown.
func matrix(first outcome, singles []outcome) string {
	normal := resultOf(first, first)
	methods, turns := make(map[string]string), make(map[string]string)
	for _, t := range first.story.turns {
		for _, record := range t.turn.GetRecords() {
			if step := record.GetStepScheduled(); step != nil {
				methods[t.child+step.GetStep()] = short(step.GetMethod())
			}
		}
		turns[t.child+strconv.FormatUint(t.number, 10)] = t.moment(methods)
	}
	harmless := make(map[faultKind]bool)
	for _, o := range transient {
		harmless[o.kind] = true
	}
	for _, out := range singles {
		if f := out.faults[0]; f.place.what != atEvent && harmless[f.kind] {
			harmless[f.kind] = resultOf(out, first) == normal
		}
	}
	var failures, cancelled, events []row
	for _, out := range singles {
		f := out.faults[0]
		r := row{result: resultOf(out, first)}
		switch {
		case f.timer > out.story.timers: // it never began, so the event never came
		case f.place.what == atEvent:
			n, _ := strconv.Atoi(f.place.where)
			r.where, r.what = f.place.where+" "+out.story.events[n-1], faultNames[f.kind]
			r.order = (n + 1) * maxTimers
			if f.timer > 0 {
				r.what += " " + f.at
				r.order = n*maxTimers + f.timer
			}
			events = append(events, r)
		case harmless[f.kind]:
		case f.kind == cancels:
			r.where = turns[f.place.where]
			cancelled = append(cancelled, r)
		case f.place.what == atTurn:
			r.where, r.what = turns[f.place.where], faultNames[f.kind]
			failures = append(failures, r)
		default:
			r.where, r.what = f.place.where+" "+methods[f.place.where], faultNames[f.kind]
			if f.kind == rejects {
				r.what = "refused: " + short(f.rejection)
			}
			failures = append(failures, r)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Without a failure, the saga ends as %s.%s\n", normal.ends, harmlessText(harmless))
	if len(failures) == 0 {
		b.WriteString("\nNo command can fail for good.\n")
	}
	table(&b, "When a command fails", "step", failures)
	table(&b, "When the saga is cancelled", "meanwhile", cancelled)
	slices.SortStableFunc(events, func(a, b row) int { return a.order - b.order })
	table(&b, "When an event is late", "event", events)
	return b.String()
}

func harmlessText(harmless map[faultKind]bool) string {
	var list []string
	for _, o := range transient {
		if harmless[o.kind] {
			list = append(list, o.name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return " These change nothing, wherever they happen:\n\n- " + strings.Join(list, "\n- ")
}

// moment says what a saga does after a turn: the commands that it sends then, and what it waits for; or what has just
// ended.
func (t sagaTurn) moment(methods map[string]string) string {
	var begun, ended []string
	for _, record := range t.turn.GetRecords() {
		switch r := record.GetKind().(type) {
		case *treatyv1.Record_StepScheduled:
			begun = append(begun, t.child+r.StepScheduled.GetStep()+" "+short(r.StepScheduled.GetMethod()))
		case *treatyv1.Record_WaitScheduled:
			begun = append(begun, t.child+r.WaitScheduled.GetWait()+" "+waitName(r.WaitScheduled, t.turn))
		case *treatyv1.Record_StepDone:
			path := t.child + r.StepDone.GetStep()
			ended = append(ended, "after "+path+" "+methods[path])
		case *treatyv1.Record_SagaSucceeded:
			if t.child == "" {
				return "after the end"
			}
			path := strings.TrimSuffix(t.child, "/")
			return "after the end of " + path + " " + methods[path]
		}
	}
	return cmp.Or(strings.Join(begun, " + "), strings.Join(ended, " + "), "at the start")
}

// waitName names a wait.
func waitName(wait *treatyv1.WaitScheduled, turn *treatyv1.Turn) string {
	var parts []string
	for _, event := range wait.GetEvents() {
		parts = append(parts, short(event.GetType()))
	}
	if wait.GetDue() == nil {
		return "waits for " + strings.Join(parts, " or ")
	}
	span := spanOf(wait.GetDue().AsTime().Sub(turn.GetTime().AsTime()))
	if len(parts) == 0 {
		return "sleeps " + span
	}
	return "waits " + span + " for " + strings.Join(parts, " or ")
}

// table writes rows under a heading, if there are any. Rows that follow each other and differ only in what happens
// where are one.
func table(b *strings.Builder, title, where string, rows []row) {
	if len(rows) == 0 {
		return
	}
	var merged []row
	for _, r := range rows {
		switch last := len(merged) - 1; {
		case last >= 0 && merged[last].result == r.result && merged[last].where == r.where:
			merged[last].what = strings.Replace(merged[last].what+"; "+r.what,
				faultNames[givenUpDone]+"; "+faultNames[givenUp], "given up", 1)
		case last >= 0 && merged[last].result == r.result && merged[last].what == r.what && r.what == "":
			merged[last].where += "; " + r.where
		default:
			merged = append(merged, r)
		}
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	heads := []string{where, "failure", "undone, in this order", "the saga ends", "with the error"}
	if merged[0].what == "" {
		heads = slices.Delete(heads, 1, 2)
	}
	write := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	write(heads)
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(heads)))
	for _, r := range merged {
		cells := []string{r.where, r.what, r.undone, r.ends, r.reason}
		if r.what == "" {
			cells = slices.Delete(cells, 1, 2)
		}
		for i, cell := range cells {
			cells[i] = cmp.Or(cell, "—")
		}
		write(cells)
	}
}
