package incoming

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// CommandStream is a stream of commands.
type CommandStream = grpc.BidiStreamingServer[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse]

// ServeCommands serves one stream of commands, from the greetings to its end. It returns what the stream ends with.
type ServeCommands func(stream CommandStream, opening Opening) error

// Opening is what the participant's service knows when a stream opens.
type Opening struct {
	// Admit raises the highest epoch of the scope in an orchestrator's greeting. Its error, a status, ends the stream.
	Admit func(ctx context.Context, greeting *treatyv1.OrchestratorGreeting) error

	// ContractsDigest is the digest of the contracts served, as in DescribeResponse.
	ContractsDigest string
}

// StreamCommands implements treaty.v1.ParticipantService. Its errors are marked, so that an orchestrator can tell them
// from those of a proxy.
func (s *participantService) StreamCommands(stream CommandStream) error {
	if s.serveCommands == nil {
		stream.SetTrailer(metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
		return status.Error(codes.Unimplemented, "this participant takes commands as unary calls only")
	}
	err := s.serveCommands(stream, Opening{
		Admit: s.admit, ContractsDigest: ContractsDigest(s.servicesServed()),
	})
	if err != nil {
		stream.SetTrailer(metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
	}
	return err
}

// admit tells all keepers the scope and the epoch in a greeting.
func (s *participantService) admit(ctx context.Context, greeting *treatyv1.OrchestratorGreeting) error {
	scope, epoch := greeting.GetScope(), greeting.GetEpoch()
	if !wire.ValidScope(scope) {
		return InvalidMetadata(scopeError(scope))
	}
	if epoch == 0 || epoch > 1<<63-1 {
		return InvalidMetadata(epochError(strconv.FormatUint(epoch, 10)))
	}
	if err := CheckEpoch(epoch, time.Now()); err != nil {
		return err
	}
	_, err := s.hear(ctx, Caller{Scope: scope, Epoch: epoch}, nil)
	return err
}

// StreamedCommand reads a command of a stream whose greeting was admitted. The error names the key that the malformed
// field stands for. A command that ParseCommand accepts is accepted, and has the same values.
func StreamedCommand(
	greeting *treatyv1.OrchestratorGreeting, streamed *treatyv1.StreamedCommand,
) (command Command, err error) {
	command = Command{
		ID: streamed.GetCommandId(), Attempt: int(streamed.GetAttempt()), Epoch: greeting.GetEpoch(),
		Scope: greeting.GetScope(), RequestDigest: streamed.GetRequestDigest(),
	}
	if err := command.readScope(streamed); err != nil {
		return Command{}, err
	}
	if command.Saga, err = sagaOf(command.ID); err != nil {
		return Command{}, err
	}
	switch streamed.GetDirection() {
	case treatyv1.StepDirection_STEP_DIRECTION_ACTION:
		command.Direction = wire.Action
	case treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION:
		command.Direction = wire.Compensation
	default:
		return Command{}, directionError(streamed.GetDirection().String())
	}
	if command.Attempt < 1 {
		return Command{}, attemptError(strconv.Itoa(command.Attempt))
	}
	if micros := streamed.GetSagaStartMicros(); micros < 0 {
		return Command{}, startError(strconv.FormatInt(micros, 10))
	} else if micros > 0 {
		command.Start = time.UnixMicro(micros).UTC()
	}
	if command.RequestDigest != "" && !isDigest(command.RequestDigest) {
		return Command{}, digestError(command.RequestDigest)
	}
	return command, nil
}

// readScope reads the scope and the epoch of a command that has its own.
func (c *Command) readScope(streamed *treatyv1.StreamedCommand) error {
	scope, epoch := streamed.GetScope(), streamed.GetEpoch()
	switch {
	case scope == "" && epoch == 0:
		return nil
	case !wire.ValidScope(scope):
		return scopeError(scope)
	case epoch == 0 || epoch > 1<<63-1:
		return epochError(strconv.FormatUint(epoch, 10))
	}
	c.Scope, c.Epoch = scope, epoch
	return nil
}

// AppendMetadata adds the metadata of the unary call of a command.
func (c *Command) AppendMetadata(md metadata.MD) {
	md[wire.SagaKey] = []string{c.Saga}
	md[wire.CommandIDKey] = []string{c.ID}
	md[wire.DirectionKey] = []string{c.Direction}
	md[wire.AttemptKey] = []string{strconv.Itoa(c.Attempt)}
	md[wire.EpochKey] = []string{strconv.FormatUint(c.Epoch, 10)}
	md[wire.ScopeKey] = []string{c.Scope}
	if !c.Start.IsZero() {
		md[wire.StartKey] = []string{strconv.FormatInt(c.Start.UnixMicro(), 10)}
	}
	if c.RequestDigest != "" {
		md[wire.RequestDigestKey] = []string{c.RequestDigest}
	}
}
