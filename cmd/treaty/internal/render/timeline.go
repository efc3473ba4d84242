package render

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// barWidth is the width of the bar that shows when a step ran. barScreen is the width of the narrowest terminal that
// shows it.
const (
	barWidth  = 24
	barScreen = 120
)

// timeline returns a saga's steps in the order in which they were scheduled.
func (v *View) timeline(saga *treatyv1.Saga) []line {
	t := newTable("STEP", "AT", "METHOD", "KIND", "STATE", "TOOK", "ATTEMPTS", "")
	bars := v.options.Terminal && v.options.Screen.Width >= barScreen
	end := v.moments.now
	if saga.GetEndTime() != nil {
		end = saga.GetEndTime().AsTime()
	}
	var tracks []line
	for _, step := range saga.GetSteps() {
		t.add(v.step(saga, step))
		if bars {
			tracks = append(tracks, bar(saga.GetCreateTime().AsTime(), end, step))
		}
	}
	lines := t.lines()
	if !bars {
		return lines
	}
	// The bars are to the right of the rows, not of the notes below them.
	widest := 0
	for _, l := range lines {
		widest = max(widest, l.trimmed().width())
	}
	at := 1
	for i, track := range tracks {
		row := lines[at].trimmed()
		column := min(widest, v.options.Screen.Width-barWidth-2)
		gap := span{strings.Repeat(" ", max(0, column-row.width())+2), plain}
		lines[at] = append(append(row, gap), track...)
		at += 1 + len(t.rows[i+1].notes)
	}
	return lines
}

// step returns the row of one step.
func (v *View) step(saga *treatyv1.Saga, step *treatyv1.Step) row {
	method := step.GetMethod()
	if v.options.Terminal && v.options.Screen.Width < barScreen {
		method = method[strings.LastIndexByte(method[:strings.IndexByte(method+"/", '/')], '.')+1:]
	}
	attempts := ""
	if count := step.GetAttempts().GetCount(); count > 0 {
		attempts = strconv.FormatUint(uint64(count), 10)
	}
	return row{
		cells: []span{
			{wire.StepPath(step.GetName()), bold},
			{v.moments.after(saga.GetCreateTime(), step.GetScheduleTime()), dim},
			{method, plain},
			{kindName(step.GetKind()), plain},
			v.stepState(step.GetState()),
			{v.moments.between(step.GetScheduleTime(), step.GetEndTime()), plain},
			{attempts, plain},
			{"", plain},
		},
		notes: v.stepNotes(step),
	}
}

// stepNotes returns what a step's row has no column for.
func (v *View) stepNotes(step *treatyv1.Step) []line {
	var out []line
	if step.GetParticipant() != "" {
		out = append(out, text(dim, "sent to %s", step.GetParticipant()))
	}
	if step.GetChild() != "" {
		out = append(out, text(dim, "child saga %s", step.GetChild()))
	}
	if v.options.Payloads == AllPayloads {
		out = append(out, v.stepPayload("request", step)...)
		out = append(out, v.stepPayload("reply", step)...)
	}
	if failure := step.GetFailure(); failure != nil {
		out = append(out, text(red, "%s", FailureText(failure)))
		for _, detail := range failure.GetDetails() {
			out = append(out, indented(2, v.typed(detail))...)
		}
	}
	if step.GetMayHaveRun() {
		out = append(out, text(yellow, "an earlier attempt may have run, so the step is compensated"))
	}
	if compensation := v.compensation(step); compensation != nil {
		out = append(out, compensation)
	}
	out = append(out, v.attempts(step)...)
	for _, by := range []struct{ what, principal string }{
		{"completed by ", step.GetPrincipal()}, {"compensation completed by ", step.GetCompensationPrincipal()},
	} {
		if proven(by.principal) {
			out = append(out, text(plain, "%s", by.what+by.principal))
		}
	}
	if decision := step.GetDecision(); decision != nil && !proto.Equal(decision, step.GetCompensationDecision()) {
		out = append(out, text(plain, "%s", decisionText(decision)))
	}
	return out
}

// decisionText says who decided, and why.
func decisionText(decision *treatyv1.Decision) string {
	who := decision.GetActor()
	if principal := decision.GetPrincipal(); principal != who && proven(principal) {
		who += " (" + principal + ")"
	}
	return "decided by " + who + ": " + decision.GetReason()
}

// proven returns whether a principal has proved more than that it is on this machine.
func proven(principal string) bool {
	return principal != "" && principal != "local" && principal != "anonymous"
}

func (v *View) stepPayload(name string, step *treatyv1.Step) []line {
	value := step.GetRequest()
	if name == "reply" {
		value = step.GetReply()
	}
	if value == nil {
		return nil
	}
	body := v.payload(value)
	out := []line{append(line{{name + " ", dim}}, body[0]...)}
	return append(out, body[1:]...)
}

// compensation returns the progress of a step's compensation, or nil without one.
func (v *View) compensation(step *treatyv1.Step) line {
	from, to := step.GetCompensationScheduleTime(), step.GetCompensationEndTime()
	switch {
	case step.GetCompensationDecision() != nil:
		return text(magenta, "compensated by hand, %s", decisionText(step.GetCompensationDecision()))
	case step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATED:
		out := line{{"compensated by " + step.GetCompensationMethod(), magenta}}
		if took := v.moments.between(from, to); took != "" && to != nil {
			out = append(out, span{" in " + took, plain})
		}
		return out
	case step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING:
		out := line{{"being compensated by " + step.GetCompensationMethod(), yellow}}
		if from != nil {
			out = append(out, span{" since " + v.moments.distance(from), plain})
		}
		return out
	default:
		return nil
	}
}

// attempts returns the attempts of a step's command that isn't done yet.
func (v *View) attempts(step *treatyv1.Step) []line {
	attempts := step.GetAttempts()
	if attempts == nil && step.GetChildSuspension() == treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED {
		return nil
	}
	var out []line
	if failure := attempts.GetLastFailure(); failure != nil && !attempts.GetAccepted() {
		outcome := ""
		if attempts.GetLastOutcome() != "" {
			outcome = " (" + attempts.GetLastOutcome() + ")"
		}
		out = append(out, text(yellow, "attempt %d%s: %s", attempts.GetCount(), outcome, FailureText(failure)))
	}
	switch {
	case step.GetChildSuspension() != treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED:
		out = append(out, text(redBold, "its child saga is SUSPENDED (%s): treaty sagas get %s%s",
			SuspensionText(step.GetChildSuspension()), ShellQuote(step.GetChild()), v.options.ConnectionFlags))
	case attempts.GetAccepted() && step.GetChild() != "":
		out = append(out, text(cyan, "waits for the end of its child saga: treaty sagas get %s%s",
			ShellQuote(step.GetChild()), v.options.ConnectionFlags))
	case attempts.GetAccepted():
		l := text(cyan, "accepted: the participant completes it later")
		if attempts.GetNextTime() != nil {
			l = append(l,
				span{"; sent again " + v.moments.coming(attempts.GetNextTime()) + " unless it completes first", plain})
		}
		out = append(out, l)
	case attempts.GetParkedReason() != "":
		out = append(out, text(redBold, "parked: the participant's contract has drifted: %s; the command is sent when "+
			"they agree again: treaty doctor%s", attempts.GetParkedReason(), v.options.ConnectionFlags))
	case attempts.GetParked():
		out = append(out, text(yellow, "parked: the participant is down; the command is sent when it is up again"))
	case attempts.GetQueued():
		out = append(out, text(yellow, "queued: the participant has as many commands as it can answer in time"))
	case attempts.GetNextTime() != nil:
		out = append(out, text(plain, "next attempt %s", v.moments.coming(attempts.GetNextTime())))
	}
	return out
}

// bar returns a bar from a saga's start to its end, which shows when a step and its compensation ran.
func bar(start, end time.Time, step *treatyv1.Step) line {
	total := end.Sub(start)
	cells := make([]span, barWidth)
	for i := range cells {
		cells[i] = span{"·", dim}
	}
	draw := func(from, to time.Time, style style) {
		first, last := barCell(from.Sub(start), total), barCell(to.Sub(start), total)
		for i := first; i <= last; i++ {
			cells[i] = span{"━", style}
		}
	}
	if step.GetScheduleTime() != nil {
		to := end
		if step.GetEndTime() != nil {
			to = step.GetEndTime().AsTime()
		}
		look := green
		switch {
		case step.GetState() == treatyv1.StepState_STEP_STATE_REFUSED:
			look = red
		case step.GetState() == treatyv1.StepState_STEP_STATE_UNKNOWN:
			look = yellow
		case step.GetEndTime() == nil:
			look = cyan
		}
		draw(step.GetScheduleTime().AsTime(), to, look)
	}
	if step.GetCompensationScheduleTime() != nil {
		to := end
		if step.GetCompensationEndTime() != nil {
			to = step.GetCompensationEndTime().AsTime()
		}
		draw(step.GetCompensationScheduleTime().AsTime(), to, magenta)
	}
	return joined(cells)
}

// barCell returns the cell of a time after the start, limited to the bar.
func barCell(at, total time.Duration) int {
	if total <= 0 {
		return 0
	}
	return min(barWidth-1, max(0, int(float64(at)/float64(total)*barWidth)))
}

// joined merges neighbors of the same style into one span.
func joined(cells []span) line {
	var out line
	for _, cell := range cells {
		if n := len(out); n > 0 && out[n-1].style == cell.style {
			out[n-1].text += cell.text
			continue
		}
		out = append(out, cell)
	}
	return out
}
