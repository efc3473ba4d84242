package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// recordsPage is how many records are asked for at a time.
const recordsPage = 500

func (a *app) recordsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "records NAME",
		Short:             "Show a saga's journal, oldest first",
		Long:              "Show a saga's journal, oldest first: what happened, and what it was decided by.",
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			return a.records(ctx, c, name)
		}),
	}
}

func (a *app) records(ctx context.Context, c *client, name string) error {
	types := &recordTypes{schema: c.schema, steps: map[string]*treatyv1.StepScheduled{}}
	encoder := &encoder{schema: c.schema, payload: types.payload}
	v := a.view(c)
	t := newTable("RECORD", "AT", "WHAT", "STEP", "DETAIL")
	var start *timestamppb.Timestamp
	request := &treatyv1.ListSagaRecordsRequest{Parent: name, PageSize: recordsPage}
	for {
		page, err := a.recordsPage(ctx, c, request)
		if err != nil {
			return a.explain(err, subject{doing: "reading the journal", saga: name})
		}
		for _, record := range page.GetRecords() {
			types.next(record.GetRecord())
			if a.flags.json {
				_, _ = a.Stdout.Write(append(encoder.encode(record), '\n'))
				continue
			}
			if start == nil {
				start = record.GetTime()
			}
			t.add(v.record(record, start, types))
		}
		request.PageToken = page.GetNextPageToken()
		if request.PageToken == "" {
			break
		}
	}
	if !a.flags.json && len(t.rows) > 1 {
		v.printer.print(line{{name, bold}, {"  from " + v.moments.exact(start), plain}}, nil)
		v.printer.print(t.lines()...)
	}
	return nil
}

func (a *app) recordsPage(ctx context.Context, c *client, request *treatyv1.ListSagaRecordsRequest) (*treatyv1.ListSagaRecordsResponse, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	return c.sagas.ListSagaRecords(ctx, request)
}

// record returns the row of one record.
func (v *view) record(record *treatyv1.SagaRecord, start *timestamppb.Timestamp, types *recordTypes) row {
	what := describe(record.GetRecord())
	name := record.GetName()
	r := row{cells: []span{
		{name[strings.LastIndexByte(name, '/')+1:], dim},
		{v.moments.after(start, record.GetTime()), dim},
		{what.title, what.style},
		{what.step, plain},
		{what.detail, plain},
	}}
	if len(what.payload) > 0 {
		r.notes = append(r.notes, v.recordPayload(what.payload, types.current)...)
	}
	if what.failure != nil {
		r.notes = append(r.notes, text(red, "%s", failureText(what.failure)))
		for _, detail := range what.failure.GetDetails() {
			r.notes = append(r.notes, indented(2, v.typed(detail))...)
		}
	}
	if what.decision != nil {
		r.notes = append(r.notes, text(plain, "decided by %s: %s", what.decision.GetActor(), what.decision.GetReason()))
	}
	return r
}

func (v *view) recordPayload(raw []byte, descriptor protoreflect.MessageDescriptor) []line {
	body, ok := v.encoder.encodeBytes(descriptor, raw)
	if !ok {
		return []line{text(dim, "%s, of a type that isn't known here", size(len(raw)))}
	}
	return jsonLines(body)
}

// description is a record in words.
type description struct {
	title    string
	style    style
	step     string
	detail   string
	payload  []byte
	failure  *treatyv1.Failure
	decision *treatyv1.Decision
}

// describe returns a record in words. A kind that isn't known yet is named as such.
func describe(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		r := kind.SagaStarted
		return description{title: "saga started", detail: r.GetDefinition(), payload: r.GetRequest()}
	case *treatyv1.Record_StepScheduled:
		r := kind.StepScheduled
		return description{title: "step scheduled", style: cyan, step: r.GetStep(), detail: joinNonEmpty(r.GetMethod(), kindName(r.GetKind())), payload: r.GetRequest()}
	case *treatyv1.Record_StepDone:
		r := kind.StepDone
		return description{title: "step done", style: green, step: r.GetStep(), detail: attemptsText(r.GetAttempts()), payload: r.GetReply(), decision: r.GetDecision()}
	case *treatyv1.Record_StepRefused:
		r := kind.StepRefused
		return description{title: "step refused", style: red, step: r.GetStep(), detail: attemptsText(r.GetAttempts()), failure: r.GetFailure(), decision: r.GetDecision()}
	case *treatyv1.Record_StepUnknown:
		r := kind.StepUnknown
		return description{title: "step unknown", style: yellow, step: r.GetStep(), detail: attemptsText(r.GetAttempts()), failure: r.GetFailure()}
	case *treatyv1.Record_CompensationDecided:
		r := kind.CompensationDecided
		return description{title: "compensation decided", style: yellow, detail: causeText(r.GetCause()), failure: r.GetFailure(), decision: r.GetDecision()}
	case *treatyv1.Record_CompensationScheduled:
		r := kind.CompensationScheduled
		detail := ""
		if len(r.GetEditedRequest()) > 0 {
			detail = "with an edited request"
		}
		return description{title: "compensation scheduled", style: yellow, step: r.GetStep(), detail: detail, payload: r.GetEditedRequest()}
	case *treatyv1.Record_CompensationDone:
		r := kind.CompensationDone
		return description{title: "compensation done", style: magenta, step: r.GetStep(), detail: attemptsText(r.GetAttempts()), payload: r.GetReply(), decision: r.GetDecision()}
	case *treatyv1.Record_SagaSuspended:
		r := kind.SagaSuspended
		detail := joinNonEmpty(suspensionText(r.GetReason()), r.GetMessage())
		return description{title: "saga suspended", style: redBold, step: r.GetStep(), detail: detail, failure: r.GetFailure()}
	case *treatyv1.Record_SagaResumed:
		return description{title: "saga resumed", style: cyan, decision: kind.SagaResumed.GetDecision()}
	case *treatyv1.Record_SagaSucceeded:
		return description{title: "saga succeeded", style: green, payload: kind.SagaSucceeded.GetReply()}
	case *treatyv1.Record_SagaCompensated:
		return description{title: "saga compensated", style: magenta}
	default:
		return description{title: "unknown record", style: dim, detail: "this treaty is older than the orchestrator"}
	}
}

func attemptsText(attempts uint32) string {
	switch attempts {
	case 0:
		return ""
	case 1:
		return "1 attempt"
	default:
		return fmt.Sprintf("%d attempts", attempts)
	}
}

// recordTypes knows of which type the payload in a record is: the journal stores payloads without their types, which follow
// from the methods that the records before name.
type recordTypes struct {
	schema     *schema
	definition string
	steps      map[string]*treatyv1.StepScheduled

	// current is the type of the payload of the record that next was called with last; nil when it isn't known.
	current protoreflect.MessageDescriptor
}

// next moves on to a record. Records must come in their order.
func (t *recordTypes) next(record *treatyv1.Record) {
	t.current = nil
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		t.definition = kind.SagaStarted.GetDefinition()
		t.current, _ = t.types(t.definition)
	case *treatyv1.Record_StepScheduled:
		t.steps[kind.StepScheduled.GetStep()] = kind.StepScheduled
		t.current, _ = t.types(kind.StepScheduled.GetMethod())
	case *treatyv1.Record_StepDone:
		_, t.current = t.types(t.steps[kind.StepDone.GetStep()].GetMethod())
	case *treatyv1.Record_CompensationScheduled:
		t.current, _ = t.types(t.steps[kind.CompensationScheduled.GetStep()].GetCompensation().GetMethod())
	case *treatyv1.Record_CompensationDone:
		_, t.current = t.types(t.steps[kind.CompensationDone.GetStep()].GetCompensation().GetMethod())
	case *treatyv1.Record_SagaSucceeded:
		_, t.current = t.types(t.definition)
	}
}

func (t *recordTypes) types(name string) (input, output protoreflect.MessageDescriptor) {
	method, err := t.schema.method(name)
	if err != nil {
		return nil, nil
	}
	return method.Input(), method.Output()
}

// payload tells the encoder which bytes hold messages, so that nothing in them that is marked debug_redact gets out.
func (t *recordTypes) payload(field protoreflect.FieldDescriptor) (protoreflect.MessageDescriptor, bool) {
	if field.ParentFile().Package() != "treaty.v1" {
		return nil, false
	}
	switch field.Name() {
	case "request", "reply", "edited_request":
		return t.current, true
	default:
		return nil, false
	}
}
