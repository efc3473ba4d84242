package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
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
	types := schema.NewJournalTypes(c.schema)
	encoder := types.Encoder()
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
			types.Next(record.GetRecord())
			if a.flags.json {
				_, _ = a.Stdout.Write(append(encoder.Encode(record), '\n'))
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
func (v *view) record(record *treatyv1.SagaRecord, start *timestamppb.Timestamp, types *schema.JournalTypes) row {
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
		r.notes = append(r.notes, v.recordPayload(what.payload, types.Payload())...)
	}
	if what.progress != nil {
		r.notes = append(r.notes, v.typed(what.progress)...)
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
	body, ok := v.encoder.EncodeBytes(descriptor, raw)
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
	progress *anypb.Any
}

// describe returns a record in words. A kind that isn't known yet is named as such.
func describe(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		r := kind.SagaStarted
		return description{title: "saga started", detail: r.GetDefinition(), payload: r.GetRequest()}
	case *treatyv1.Record_StepScheduled:
		r := kind.StepScheduled
		return description{title: "step scheduled", style: cyan, step: r.GetStep(), detail: joinNonEmpty(joinNonEmpty(r.GetMethod(), kindName(r.GetKind())), r.GetParticipant()), payload: r.GetRequest()}
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
		return describeCode(record)
	}
}

// describeCode returns a record of what the saga's code does beside its steps.
func describeCode(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_WaitScheduled:
		r := kind.WaitScheduled
		return description{title: "wait scheduled", style: cyan, step: r.GetWait(), detail: moments{}.waiting(&treatyv1.Wait{DueTime: r.GetDue(), Events: r.GetEvents()})}
	case *treatyv1.Record_WaitEnded:
		return describeWaitEnded(kind.WaitEnded)
	case *treatyv1.Record_ScopeOpened:
		r := kind.ScopeOpened
		return description{title: "scope opened", style: cyan, step: r.GetScope(), detail: "until " + moments{}.exact(r.GetDeadline())}
	case *treatyv1.Record_ScopeExpired:
		return description{title: "scope expired", style: yellow, step: kind.ScopeExpired.GetScope()}
	case *treatyv1.Record_ScopeCompensationDecided:
		r := kind.ScopeCompensationDecided
		return description{title: "scope compensation decided", style: yellow, step: r.GetScope(), detail: scopeCauseText(r.GetCause()), failure: r.GetFailure()}
	case *treatyv1.Record_BroadcastScheduled:
		r := kind.BroadcastScheduled
		to := "to nobody"
		if len(r.GetParticipants()) > 0 {
			to = "to " + strings.Join(r.GetParticipants(), ", ")
		}
		return description{title: "broadcast scheduled", style: cyan, step: r.GetBroadcast(), detail: joinNonEmpty(r.GetMethod(), to)}
	case *treatyv1.Record_VersionChosen:
		r := kind.VersionChosen
		return description{title: "version chosen", detail: fmt.Sprintf("%s: %d", r.GetChange(), r.GetVersion())}
	case *treatyv1.Record_ProgressSet:
		return description{title: "progress set", progress: kind.ProgressSet.GetProgress()}
	case *treatyv1.Record_SagaRestarted:
		r := kind.SagaRestarted
		return description{
			title: "saga restarted", style: cyan, detail: fmt.Sprintf("round %d of %s", r.GetRound(), r.GetStarted().GetDefinition()),
			payload: r.GetStarted().GetRequest(), progress: r.GetProgress(),
		}
	default:
		return description{title: "unknown record", style: dim, detail: "this treaty is older than the orchestrator"}
	}
}

func describeWaitEnded(r *treatyv1.WaitEnded) description {
	out := description{title: "wait ended", style: green, step: r.GetWait()}
	switch how := r.GetHow().(type) {
	case *treatyv1.WaitEnded_Due_:
		out.detail = "the moment came"
	case *treatyv1.WaitEnded_Event:
		out.detail = fmt.Sprintf("event %s of %s, position %d", how.Event.GetId(), how.Event.GetSource(), how.Event.GetPosition())
		out.payload = how.Event.GetData()
	case *treatyv1.WaitEnded_Stopped_:
		out.style, out.detail = yellow, "the code that waited was stopped"
	}
	return out
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
