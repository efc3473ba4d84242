package render

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Payloads says which payloads of a saga are shown.
type Payloads int

const (
	// SagaPayloads shows the saga's request and reply.
	SagaPayloads Payloads = iota

	// AllPayloads shows those of the steps, too.
	AllPayloads

	// ReplyOnly shows the saga's reply and nothing else.
	ReplyOnly
)

// Options say where the text of a View is shown.
type Options struct {
	// Terminal is true for text in a terminal: times have their distance from Now, and states have marks.
	Terminal bool

	// Color turns colors on.
	Color bool

	// Screen is the size of the terminal.
	Screen Screen

	// Now and Zone are the current time and the user's time zone. They are used in a terminal only.
	Now  time.Time
	Zone *time.Location

	// Schema has the types of payloads.
	Schema *schema.Schema

	// ConnectionFlags are the flags, with a leading space, with which the suggested commands reach the orchestrator.
	ConnectionFlags string

	// Payloads says which payloads of a saga are shown.
	Payloads Payloads
}

// Screen is the size of a terminal in characters.
type Screen struct {
	Width, Height int
}

// View renders messages of the API as text. Like its schema, it isn't safe for concurrent use.
type View struct {
	options Options
	moments moments
	encoder *schema.Encoder
}

// New makes a view.
func New(options Options) *View {
	return &View{
		options: options,
		moments: moments{now: options.Now, zone: options.Zone, terminal: options.Terminal},
		encoder: schema.NewEncoder(options.Schema),
	}
}

// Saga returns a whole saga: its facts, its timeline and its payloads, and why it isn't driven or is suspended.
func (v *View) Saga(saga *treatyv1.Saga) string { return v.render(v.saga(saga)) }

func (v *View) saga(saga *treatyv1.Saga) []line {
	out := []line{v.title(saga), nil}
	if why := v.notDriven(saga.GetNotDriven()); len(why) > 0 {
		out = append(append(out, why...), nil)
	}
	out = append(out, v.facts(saga)...)
	if len(saga.GetSteps()) > 0 {
		out = append(out, nil)
		out = append(out, v.timeline(saga)...)
	}
	if payloads := v.sagaPayloads(saga); len(payloads) > 0 {
		out = append(out, nil)
		out = append(out, payloads...)
	}
	if saga.GetSuspension() != nil {
		out = append(out, nil)
		out = append(out, v.suspension(saga)...)
	}
	if decisions := v.decisions(saga); len(decisions) > 0 {
		out = append(out, nil)
		out = append(out, decisions...)
	}
	return out
}

func (v *View) title(saga *treatyv1.Saga) line {
	return line{
		{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState()), {"  " + saga.GetDefinition(), plain},
	}
}

// factWidth is the width of the names of facts.
const factWidth = len("request id") + 2

func (v *View) facts(saga *treatyv1.Saga) []line {
	var out []line
	fact := func(name, value string) {
		if value != "" {
			out = append(out, line{{"  " + pad(name), dim}, {value, plain}})
		}
	}
	fact("started", v.moments.at(saga.GetCreateTime()))
	if saga.GetEndTime() != nil {
		fact("ended", v.moments.at(saga.GetEndTime()))
	} else {
		fact("changed", v.moments.at(saga.GetUpdateTime()))
	}
	if saga.GetEndTime() != nil {
		fact("took", v.moments.between(saga.GetCreateTime(), saga.GetEndTime()))
	} else {
		fact("so far", v.moments.between(saga.GetCreateTime(), nil))
	}
	fact("deadline", v.moments.at(saga.GetDeadline()))
	fact("warning", saga.GetWarning())
	fact("request id", saga.GetRequestId())
	if proven(saga.GetPrincipal()) {
		fact("started by", saga.GetPrincipal())
	}
	fact("parent", saga.GetParentStep())
	if round := saga.GetRound(); round > 1 {
		fact("round", strconv.Itoa(int(round)))
	}
	fact("labels", labelText(saga.GetLabels()))
	fact("trace", saga.GetTraceId())
	fact("etag", saga.GetEtag())
	fact("cause", causeText(saga.GetCause()))
	out = append(out, v.failure("failure", saga.GetFailure())...)
	out = append(out, v.any("progress", saga.GetProgress())...)
	out = append(out, v.scopes(saga)...)
	return append(out, v.waits(saga)...)
}

// sagaPayloads returns the saga's request and reply, if they are shown.
func (v *View) sagaPayloads(saga *treatyv1.Saga) []line {
	var out []line
	if v.options.Payloads != ReplyOnly {
		out = append(out, v.any("request", saga.GetRequest())...)
	}
	return append(out, v.any("reply", saga.GetReply())...)
}

// failure returns a failure as facts: its code and message, and each of its details.
func (v *View) failure(name string, failure *treatyv1.Failure) []line {
	if failure == nil {
		return nil
	}
	out := []line{{{"  " + pad(name), dim}, {FailureText(failure), red}}}
	for _, detail := range failure.GetDetails() {
		out = append(out, indented(factWidth+2, v.typed(detail))...)
	}
	return out
}

// any returns a payload as a fact.
func (v *View) any(name string, value *anypb.Any) []line {
	if value == nil {
		return nil
	}
	body := v.payload(value)
	out := []line{append(line{{"  " + pad(name), dim}}, body[0]...)}
	return append(out, indented(factWidth+2, body[1:])...)
}

func labelText(labels map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, key+"="+labels[key])
	}
	return strings.Join(out, " ")
}

func pad(s string) string {
	return s + strings.Repeat(" ", max(0, factWidth-len(s)))
}
