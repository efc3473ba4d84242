package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// inlineJSON is how long JSON may be to stand on one line.
const inlineJSON = 100

// detail is which payloads of a saga are shown.
type detail int

const (
	// The zero value shows the saga's request and reply.
	_ detail = iota

	// stepPayloads shows those of its steps too.
	stepPayloads

	// replyOnly shows only the saga's reply.
	replyOnly
)

// view draws sagas for people.
type view struct {
	printer *printer
	moments moments
	encoder *schema.Encoder

	// connection holds the connection flags that a shown command needs, with a leading space.
	connection string

	// detail says which payloads are shown.
	detail detail
}

func (a *app) view(c *client) *view {
	p := a.printer()
	return &view{
		printer:    p,
		moments:    moments{now: a.Now(), zone: a.Location, terminal: p.terminal},
		encoder:    schema.NewEncoder(c.schema),
		connection: a.flags.repeated(),
	}
}

// saga returns a whole saga: what it is, why it stands where it does, and its steps.
func (v *view) saga(saga *treatyv1.Saga) []line {
	out := []line{v.title(saga), nil}
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
	return out
}

func (v *view) title(saga *treatyv1.Saga) line {
	return line{{saga.GetName(), bold}, {"  ", plain}, v.printer.sagaState(saga.GetState()), {"  ", plain}, {saga.GetDefinition(), plain}}
}

// factWidth is the width of the names of facts.
const factWidth = len("request id") + 2

func (v *view) facts(saga *treatyv1.Saga) []line {
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
	fact("request id", saga.GetRequestId())
	fact("parent", saga.GetParentStep())
	if round := saga.GetRound(); round > 1 {
		fact("round", strconv.Itoa(int(round)))
	}
	fact("labels", labelText(saga.GetLabels()))
	fact("trace", saga.GetTraceId())
	fact("cause", causeText(saga.GetCause()))
	out = append(out, v.failure("failure", saga.GetFailure())...)
	out = append(out, v.any("progress", saga.GetProgress())...)
	out = append(out, v.scopes(saga)...)
	return append(out, v.waits(saga)...)
}

// sagaPayloads returns the saga's request and reply, as far as they are wanted.
func (v *view) sagaPayloads(saga *treatyv1.Saga) []line {
	var out []line
	if v.detail != replyOnly {
		out = append(out, v.any("request", saga.GetRequest())...)
	}
	return append(out, v.any("reply", saga.GetReply())...)
}

// failure returns a failure as facts: its code and message, and each of its details.
func (v *view) failure(name string, failure *treatyv1.Failure) []line {
	if failure == nil {
		return nil
	}
	out := []line{{{"  " + pad(name), dim}, {failureText(failure), red}}}
	for _, detail := range failure.GetDetails() {
		out = append(out, indented(factWidth+2, v.typed(detail))...)
	}
	return out
}

// any returns a payload as a fact.
func (v *view) any(name string, value *anypb.Any) []line {
	if value == nil {
		return nil
	}
	body := v.payload(value)
	out := []line{append(line{{"  " + pad(name), dim}}, body[0]...)}
	return append(out, indented(factWidth+2, body[1:])...)
}

// typed returns what is in an Any after the name of its type.
func (v *view) typed(value *anypb.Any) []line {
	body := v.payload(value)
	if _, known := v.encoder.EncodeAny(value); known {
		body[0] = append(line{{string(schema.TypeName(value.GetTypeUrl())) + " ", dim}}, body[0]...)
	}
	return body
}

func indented(by int, lines []line) []line {
	out := make([]line, len(lines))
	for i, l := range lines {
		out[i] = append(line{{strings.Repeat(" ", by), plain}}, l...)
	}
	return out
}

// payload returns what is in an Any, at least one line.
func (v *view) payload(value *anypb.Any) []line {
	raw, ok := v.encoder.EncodeAny(value)
	if !ok {
		return []line{text(dim, "%s, %s, of a type that isn't known here", schema.TypeName(value.GetTypeUrl()), size(len(value.GetValue())))}
	}
	return jsonLines(raw)
}

func jsonLines(raw json.RawMessage) []line {
	if len(raw) <= inlineJSON {
		return []line{{{string(raw), plain}}}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return []line{{{string(raw), plain}}}
	}
	var out []line
	for part := range strings.SplitSeq(indented.String(), "\n") {
		out = append(out, line{{part, plain}})
	}
	return out
}

// failureText returns a failure's code and message.
func failureText(failure *treatyv1.Failure) string {
	name := codeName(codes.Code(uint32(failure.GetCode())))
	if failure.GetMessage() == "" {
		return name
	}
	return name + ": " + failure.GetMessage()
}

func labelText(labels map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, key+"="+labels[key])
	}
	return strings.Join(out, " ")
}

func size(n int) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	default:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	}
}

func pad(s string) string {
	return s + strings.Repeat(" ", max(0, factWidth-len(s)))
}

// printJSON prints one message as one line of JSON.
func (a *app) printJSON(c *client, message proto.Message) {
	encoder := schema.NewEncoder(c.schema)
	_, _ = a.Stdout.Write(append(encoder.Encode(message), '\n'))
}
