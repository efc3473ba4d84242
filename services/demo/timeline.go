package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// event is something that happened in a saga apart from its steps.
type event struct {
	at   time.Time
	text string
}

// moment is a row of a timeline: a command, or an event.
type moment struct {
	from, to time.Time
	step     string
	sentTo   string // the participant of a broadcast
	method   string
	outcome  string
	style    style
	notes    []string
	event    string
}

// moments returns everything that happened in a saga, in order.
func moments(saga *treatyv1.Saga, events []event) []moment {
	all := make([]moment, 0, len(events)+2*len(saga.GetSteps()))
	// A decision comes before the commands that follow from it in the same turn.
	for _, e := range events {
		all = append(all, moment{from: e.at, to: e.at, event: e.text})
	}
	for _, step := range saga.GetSteps() {
		path := wire.StepPath(step.GetName())
		m := moment{
			from: step.GetScheduleTime().AsTime(), to: step.GetEndTime().AsTime(), step: path,
			method: step.GetMethod(), sentTo: step.GetParticipant(),
		}
		switch {
		case step.GetFailure() != nil && step.GetState() == treatyv1.StepState_STEP_STATE_REFUSED:
			m.outcome, m.style = "refused", red
			m.notes = append(m.notes, reason(step.GetFailure()))
		case step.GetFailure() != nil:
			m.outcome, m.style = "unknown", yellow
			m.notes = append(m.notes, reason(step.GetFailure()))
		case step.GetEndTime() == nil:
			m.outcome, m.style = "in flight", yellow
		default:
			m.outcome, m.style = "done", green
		}
		if n := step.GetAttempts().GetCount(); n > once(step) {
			m.notes = append(m.notes, fmt.Sprintf("%d attempts", n))
		}
		all = append(all, m)
		if step.GetCompensationScheduleTime() != nil {
			compensation := moment{
				from: step.GetCompensationScheduleTime().AsTime(), to: step.GetCompensationEndTime().AsTime(),
				step:   path,
				method: step.GetCompensationMethod(), outcome: "compensated", style: magenta,
			}
			if step.GetCompensationEndTime() == nil {
				compensation.outcome = "compensating"
			}
			all = append(all, compensation)
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.from.Compare(b.from) })
	return all
}

// once returns how many attempts a step needs if nothing goes wrong. They count for both of its directions.
func once(step *treatyv1.Step) uint32 {
	if step.GetCompensationScheduleTime() != nil {
		return 2
	}
	return 1
}

// reason returns why a participant refused: the name of the typed rejection, and the message.
func reason(f *treatyv1.Failure) string {
	name := ""
	for _, detail := range (&spb.Status{Details: f.GetDetails()}).GetDetails() {
		if n := string(detail.MessageName().Name()); n != "ErrorInfo" {
			name = n + ": "
			break
		}
	}
	return name + f.GetMessage()
}

// barWidth is the width of the bar that shows when a command ran. It needs a terminal with barScreen columns.
const (
	barWidth  = 24
	barScreen = 100
)

// timeline prints the events and steps of a saga.
func (p *printer) timeline(saga *treatyv1.Saga, events []event) {
	begin, end := saga.GetCreateTime().AsTime(), saga.GetEndTime().AsTime()
	if saga.GetEndTime() == nil {
		end = time.Now()
	}
	bars := p.bars && p.width >= barScreen
	rows := [][]cell{header("AT", "STEP", "PARTICIPANT", "COMMAND", "OUTCOME", "TOOK", "")}
	for _, m := range moments(saga, events) {
		at := cell{short(m.from.Sub(begin)), dim}
		if m.event != "" {
			rows = append(rows, []cell{at, {m.event, yellow}})
			continue
		}
		took := short(m.to.Sub(m.from))
		if m.to.Before(m.from) { // It is in flight.
			m.to, took = end, ""
		}
		participant, command := names(m.method)
		if m.sentTo != "" {
			participant, _ = names(m.sentTo)
		}
		row := []cell{at, {m.step, plain}, {participant, cyan}, {command, plain}, {m.outcome, m.style}, {took, plain}}
		if bars {
			row = append(row, cell{p.bar(m, begin, end), plain})
		} else {
			row = append(row, cell{})
		}
		rows = append(rows, row)
		for _, note := range m.notes {
			rows = append(rows, []cell{{}, {}, {"└ " + note, dim}})
		}
	}
	p.table("    ", rows)
}

func header(titles ...string) []cell {
	cells := make([]cell, len(titles))
	for i, t := range titles {
		cells[i] = cell{t, dim}
	}
	return cells
}

// childSaga is shown as the participant of a step that is itself a saga.
const childSaga = "(saga)"

// names splits a method into its participant and its command. For example, "acme.card.v1.CardService/IssueCard" has the
// participant "card".
func names(method string) (participant, command string) {
	service, command, _ := strings.Cut(method, "/")
	if strings.HasSuffix(service, "Sagas") {
		return childSaga, command
	}
	parts := strings.Split(service, ".")
	if len(parts) < 3 {
		return service, command
	}
	return parts[len(parts)-3], command
}

// short returns a duration for people.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// bar draws when a command ran, between the begin and the end of its saga.
func (p *printer) bar(m moment, begin, end time.Time) string {
	total := max(end.Sub(begin), 1)
	place := func(t time.Time) int {
		return min(barWidth, max(0, int(float64(t.Sub(begin))/float64(total)*barWidth)))
	}
	from := min(place(m.from), barWidth-1)
	length := max(1, place(m.to)-from)
	return p.styled(dim, strings.Repeat("·", from)) + p.styled(m.style, strings.Repeat("━", length)) +
		p.styled(dim, strings.Repeat("·", barWidth-from-length))
}
