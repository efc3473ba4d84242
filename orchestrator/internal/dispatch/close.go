package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const (
	// inquiryTimeout limits a question about commands.
	inquiryTimeout = 10 * time.Second

	// listPage is how many commands are asked for at a time.
	listPage = 1000
)

// inquiry is a call of treaty.v1.ParticipantService.
type inquiry struct {
	*exchange

	from   sender
	ctx    context.Context
	cancel context.CancelFunc
}

// inquire prepares a call of treaty.v1.ParticipantService. The caller calls its cancel.
func (d *Dispatcher) inquire(ctx context.Context, from sender) *inquiry {
	q := &inquiry{exchange: new(exchange), from: from}
	callCtx, cancel := context.WithTimeout(exchangeContext{ctx, q.exchange}, inquiryTimeout)
	q.ctx, q.cancel = metadata.AppendToOutgoingContext(callCtx,
		wire.EpochKey, strconv.FormatUint(from.epoch, 10), wire.ScopeKey, from.scope), cancel
	return q
}

// believed returns whether an error of the call is the participant's word.
func (q *inquiry) believed(p *participant) bool {
	return q.answered.Load() && (q.mark() != "" || p.isPlain())
}

// halt returns why the question can't be asked again, and the later epoch that the participant knows, or 0.
func (q *inquiry) halt(p *participant, st *status.Status) (halt engine.Halt, later uint64) {
	if !q.believed(p) {
		return engine.NoHalt, 0
	}
	var answer engine.Answer
	p.believe(&answer, q.from, st, q.mark())
	return answer.Halt, answer.LaterEpoch
}

// CloseCommand implements engine.Dispatcher.
func (d *Dispatcher) CloseCommand(ctx context.Context, attempt *engine.Attempt) engine.Closed {
	defer attempt.Slot.Release()
	r, ok := d.find(engine.Destination{Method: attempt.Call.Method, Participant: attempt.Participant})
	if !ok || !d.calls.Enter() {
		return engine.Closed{Failure: failureFor(attempt.Call.Method)}
	}
	defer d.calls.Leave()
	p := r.participant
	if p.isPlain() {
		return engine.Closed{Verdict: engine.NotKept}
	}
	q := d.inquire(ctx, senderOf(attempt))
	defer q.cancel()
	response, err := treatyv1.NewParticipantServiceClient(p.conn).CloseCommand(q.ctx, &treatyv1.CloseCommandRequest{
		CommandId: wire.JoinStep(attempt.Saga, attempt.Step), Method: attempt.Call.Method,
		RequestDigest: attempt.Digest, SagaStart: timestamppb.New(attempt.SagaStart),
	}, grpc.Trailer(&q.trailer))
	if err != nil {
		st := status.Convert(err)
		failure, _ := failureOf(st)
		if st.Code() == codes.Unimplemented && (q.believed(p) || q.answered.Load() && p.described() != nil &&
			!p.has(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_CLOSE_COMMAND)) {
			return engine.Closed{Verdict: engine.NotKept}
		}
		halt, later := q.halt(p, st)
		return engine.Closed{Halt: halt, LaterEpoch: later, Failure: failure}
	}
	return d.closed(attempt, response)
}

func (d *Dispatcher) closed(attempt *engine.Attempt, response *treatyv1.CloseCommandResponse) engine.Closed {
	switch outcome := response.GetOutcome().(type) {
	case *treatyv1.CloseCommandResponse_Executed_:
		reply := outcome.Executed.GetReply()
		if err := checkReply(attempt.Call.Output, reply); err != nil {
			return engine.Closed{Failure: &treatyv1.Failure{
				Code: int32(codes.Internal), Message: fmt.Sprintf("the reply of %s can't be read: %v",
					attempt.Call.Method, err),
			}}
		}
		return engine.Closed{Verdict: engine.WasExecuted, Reply: reply}
	case *treatyv1.CloseCommandResponse_Accepted_:
		return engine.Closed{Verdict: engine.WasAccepted}
	case *treatyv1.CloseCommandResponse_Refused_:
		failure := outcome.Refused.GetFailure()
		if failure == nil || failure.GetCode() == int32(codes.OK) {
			failure = &treatyv1.Failure{Code: int32(codes.FailedPrecondition),
				Message: "the participant has refused it"}
		}
		failure, _ = failureOf(status.FromProto(&spb.Status{
			Code: failure.GetCode(), Message: failure.GetMessage(), Details: failure.GetDetails(),
		}))
		return engine.Closed{Verdict: engine.WasRefused, Failure: failure}
	case *treatyv1.CloseCommandResponse_Compensated_:
		return engine.Closed{Verdict: engine.WasCompensated}
	case *treatyv1.CloseCommandResponse_Closed_:
		return engine.Closed{Verdict: engine.ClosedNow}
	case *treatyv1.CloseCommandResponse_NotKept_:
		return engine.Closed{Verdict: engine.NotKept}
	default:
		return engine.Closed{Failure: &treatyv1.Failure{
			Code: int32(codes.Internal), Message: "the participant's answer to CloseCommand is of a later version",
		}}
	}
}

func failureFor(method string) *treatyv1.Failure {
	return &treatyv1.Failure{
		Code: int32(codes.Unavailable), Message: "no participant is configured for " + method,
	}
}

// LookUp implements engine.Dispatcher.
func (d *Dispatcher) LookUp(ctx context.Context, attempt *engine.Attempt) engine.Known {
	r, ok := d.find(engine.Destination{Method: attempt.Call.Method, Participant: attempt.Participant})
	if !ok {
		return engine.Known{Failure: failureFor(attempt.Call.Method)}
	}
	p := r.participant
	if p.isPlain() || !p.keeps(attempt.Call.Method) {
		return engine.Known{Verdict: engine.NotKept}
	}
	id := wire.JoinStep(attempt.Saga, attempt.Step)
	known := engine.Known{Verdict: engine.NeverSeen}
	err := d.list(ctx, p, senderOf(attempt), &treatyv1.ListCommandsRequest{Sagas: []string{attempt.Saga}},
		func(command *treatyv1.KnownCommand) error {
			switch {
			case command.GetCommandId() != id:
			case command.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION:
				known.Verdict = engine.WasCompensated
			default:
				known.Method, known.Digest = command.GetMethod(), command.GetRequestDigest()
				if known.Verdict == engine.NeverSeen {
					known.Verdict = verdictOf(command.GetVerdict())
				}
			}
			return nil
		})
	if err != nil {
		failure, _ := failureOf(status.Convert(err))
		return engine.Known{Failure: failure}
	}
	return known
}

func verdictOf(verdict treatyv1.CommandVerdict) engine.Verdict {
	switch verdict {
	case treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED:
		return engine.WasExecuted
	case treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED:
		return engine.WasAccepted
	case treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED, treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED_LATE:
		return engine.WasRefused
	case treatyv1.CommandVerdict_COMMAND_VERDICT_CLOSED:
		return engine.ClosedNow
	default:
		return engine.NotAnswered
	}
}

// keeps returns whether the participant has said that it keeps what became of a method's commands.
func (p *participant) keeps(method string) bool {
	return p.has(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS) &&
		slices.Contains(p.described().GetKeptMethods(), method)
}

func (d *Dispatcher) list(
	ctx context.Context, p *participant, from sender, request *treatyv1.ListCommandsRequest,
	yield func(*treatyv1.KnownCommand) error,
) error {
	client := treatyv1.NewParticipantServiceClient(p.conn)
	page := &treatyv1.ListCommandsRequest{Sagas: request.GetSagas(), Since: request.GetSince(), PageSize: listPage}
	for {
		if !d.calls.Enter() {
			return status.Error(codes.Unavailable, closedMessage)
		}
		response, err := d.listOnce(ctx, client, p, from, page)
		d.calls.Leave()
		if err != nil {
			return err
		}
		for _, command := range response.GetCommands() {
			if err := yield(command); err != nil {
				return err
			}
		}
		if page.PageToken = response.GetNextPageToken(); page.PageToken == "" {
			return nil
		}
	}
}

func (d *Dispatcher) listOnce(
	ctx context.Context, client treatyv1.ParticipantServiceClient, p *participant, from sender,
	page *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	q := d.inquire(ctx, from)
	defer q.cancel()
	response, err := client.ListCommands(q.ctx, page, grpc.Trailer(&q.trailer))
	if err == nil {
		return response, nil
	}
	self := d.scopes.find(from)
	if halt, later := q.halt(p, status.Convert(err)); halt == engine.HaltReplaced && self != nil {
		self.Replaced(fmt.Sprintf("the participant %s knows a later epoch: %v", p.name, err), later)
	}
	return response, err
}
