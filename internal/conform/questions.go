package conform

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// closed asks with CloseCommand about commands in each state.
func closed(ctx context.Context, c *Command) error {
	if !c.checker.closes(c.Name()) {
		return skip("the participant doesn't serve CloseCommand for the method")
	}
	err := c.in(ctx, func(t *trial) error {
		done, err := t.execute(ctx)
		if err != nil {
			return err
		}
		response, err := t.close(ctx, t.digest)
		if err != nil {
			return err
		}
		reply := t.reply.ProtoReflect().New().Interface()
		if response.GetExecuted() == nil ||
			proto.Unmarshal(response.GetExecuted().GetReply(), reply) != nil || !proto.Equal(reply, done.reply) {
			return fmt.Errorf("CloseCommand of an executed action tells %s, want executed with its reply",
				outcome(response))
		}
		_, err = t.close(ctx, wire.RequestDigest(c.Name(), []byte("another request")))
		if status.Code(err) != codes.Internal {
			return fmt.Errorf("CloseCommand with another digest was answered %v, want INTERNAL with OTHER_REQUEST",
				status.Code(err))
		}
		if t.Command.undo == nil {
			return nil
		}
		if err := t.takeBack(ctx, t.reply); err != nil {
			return err
		}
		response, err = t.close(ctx, t.digest)
		if err == nil && response.GetCompensated() == nil {
			err = fmt.Errorf("CloseCommand of a compensated action tells %s", outcome(response))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.in(ctx, func(t *trial) error {
		response, err := t.close(ctx, t.digest)
		if err == nil && response.GetClosed() == nil {
			err = fmt.Errorf("CloseCommand of an action that never arrived tells %s, want closed", outcome(response))
		}
		if err != nil {
			return err
		}
		a, err := t.act(ctx)
		if err != nil {
			return err
		}
		if !a.refused() {
			return fmt.Errorf("an action that was closed was answered %s, want FAILED_PRECONDITION with %s", a,
				wire.Reason(treatyv1.ErrorReason_ERROR_REASON_CLOSED_BEFORE))
		}
		t.undone = true
		return t.want(ctx, 0, "after an action that was closed")
	})
}

func outcome(response *treatyv1.CloseCommandResponse) string {
	oneof := response.ProtoReflect().Descriptor().Oneofs().ByName("outcome")
	if field := response.ProtoReflect().WhichOneof(oneof); field != nil {
		return string(field.Name())
	}
	return "nothing"
}

func (t *trial) close(ctx context.Context, digest string) (*treatyv1.CloseCommandResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, t.checker.suite.Timeout)
	defer cancel()
	response, err := treatyv1.NewParticipantServiceClient(t.checker.conn).CloseCommand(t.asking(ctx),
		&treatyv1.CloseCommandRequest{
			CommandId: t.id(), Method: t.Name(), RequestDigest: digest, SagaStart: timestamppb.New(t.start),
		})
	if err != nil {
		return nil, fmt.Errorf("CloseCommand of %s: %w", t.id(), err)
	}
	return response, nil
}

// horizon tells a horizon, and then sends a command of a saga that started before it.
func horizon(ctx context.Context, c *Command) error {
	if !c.checker.closes(c.Name()) {
		return skip("the participant has no inbox that it says keeps the method")
	}
	return c.in(ctx, func(t *trial) error {
		t.scope = c.checker.scope(t.saga)
		_, err := c.checker.describe(ctx, t.scope, t.epoch,
			&treatyv1.DescribeRequest{Horizon: timestamppb.New(t.start)})
		if err != nil {
			return fmt.Errorf("telling a horizon with Describe: %w", err)
		}
		t.start = t.start.Add(-time.Hour)
		a, err := t.act(ctx)
		if err != nil {
			return err
		}
		if a.code() != codes.Internal || a.reason() != treatyv1.ErrorReason_ERROR_REASON_PURGED {
			return fmt.Errorf("a command of a saga from before the horizon was answered %s, "+
				"want INTERNAL with PURGED", a)
		}
		t.undone = true
		return t.want(ctx, 0, "after a command from before the horizon")
	})
}

func listed(ctx context.Context, c *Command) error {
	if !c.checker.lists(c.Name()) {
		return skip("the participant doesn't serve ListCommands for the method")
	}
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		rows, err := t.list(ctx)
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return fmt.Errorf("ListCommands tells %d commands of a saga with one", len(rows))
		}
		row := rows[0]
		for _, is := range []struct{ what, got, want string }{
			{"command_id", row.GetCommandId(), t.id()},
			{"direction", row.GetDirection().String(), treatyv1.StepDirection_STEP_DIRECTION_ACTION.String()},
			{"method", row.GetMethod(), t.Name()},
			{"verdict", row.GetVerdict().String(), treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED.String()},
			{"request_digest", row.GetRequestDigest(), t.digest},
			{"saga_start", micros(row.GetSagaStart().AsTime()), micros(t.start)},
		} {
			if is.got != is.want {
				return fmt.Errorf("ListCommands tells the %s %q, want %q", is.what, is.got, is.want)
			}
		}
		return nil
	})
}

func micros(t time.Time) string { return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano) }

// participantChecks are about the participant as a whole.
var participantChecks = []check{
	{Guarantee{"keys-arrive", "the metadata and the trailers get through"}, false, true, keysArrive},
	{Guarantee{"unknown-method", "a method that isn't served is answered so, in the participant's name"}, false, true,
		unknownMethod},
	{Guarantee{"not-kept", "CloseCommand of a method without an inbox says so"}, false, true, notKept},
}

func keysArrive(ctx context.Context, with *Command) error {
	if with.checker.Plain() {
		return skip("the participant doesn't serve Describe")
	}
	return with.in(ctx, func(t *trial) error {
		md := t.metadata(wire.Action, 1)
		var trailer metadata.MD
		described, err := treatyv1.NewParticipantServiceClient(t.checker.conn).Describe(
			metadata.AppendToOutgoingContext(ctx, md...), &treatyv1.DescribeRequest{}, grpc.Trailer(&trailer))
		if err != nil {
			return fmt.Errorf("calling Describe with the metadata of a command: %w", err)
		}
		for i := 0; i < len(md); i += 2 {
			if !slices.Contains(described.GetReceivedKeys(), md[i]) {
				return fmt.Errorf("%s was sent and didn't arrive: no command would be sent", md[i])
			}
		}
		if got := trailer.Get(wire.AnswerKey); !slices.Equal(got, []string{wire.AnswerDone}) {
			return fmt.Errorf("the trailer %s of Describe is %q, want %q", wire.AnswerKey, got, wire.AnswerDone)
		}
		return nil
	})
}

func unknownMethod(ctx context.Context, with *Command) error {
	return with.in(ctx, func(t *trial) error {
		ctx, cancel := context.WithTimeout(ctx, t.checker.suite.Timeout)
		defer cancel()
		var trailer metadata.MD
		service := with.method.Parent().FullName()
		err := t.checker.conn.Invoke(metadata.AppendToOutgoingContext(ctx, t.metadata(wire.Action, 1)...),
			"/"+string(service)+"/ConformanceCheck", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&trailer))
		got := trailer.Get(wire.AnswerKey)
		switch {
		case status.Code(err) != codes.Unimplemented:
			return fmt.Errorf("a method that doesn't exist was answered %s, want UNIMPLEMENTED", status.Code(err))
		case with.checker.Plain() && len(got) == 0:
			return skip("the participant marks no answers: the orchestrator treats it as plain")
		case !slices.Equal(got, []string{wire.AnswerAttempt}):
			return fmt.Errorf("UNIMPLEMENTED has the marks %q, want %q: the command would stay in doubt", got,
				wire.AnswerAttempt)
		}
		return nil
	})
}

func notKept(ctx context.Context, with *Command) error {
	if !with.checker.closes(with.Name()) {
		return skip("the participant doesn't serve CloseCommand")
	}
	return with.in(ctx, func(t *trial) error {
		ctx, cancel := context.WithTimeout(ctx, t.checker.suite.Timeout)
		defer cancel()
		method := string(with.method.Parent().FullName()) + "/ConformanceCheck"
		response, err := treatyv1.NewParticipantServiceClient(t.checker.conn).CloseCommand(t.asking(ctx),
			&treatyv1.CloseCommandRequest{
				CommandId: t.id(), Method: method, RequestDigest: wire.RequestDigest(method, nil),
				SagaStart: timestamppb.New(t.start),
			})
		if err != nil {
			return fmt.Errorf("CloseCommand of a method that doesn't exist: %w", err)
		}
		if response.GetNotKept() == nil {
			return fmt.Errorf("CloseCommand of a method that doesn't exist tells %s, want not_kept", outcome(response))
		}
		return nil
	})
}
