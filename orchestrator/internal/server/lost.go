package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ListLostSagas lists the sagas that participants know and the store doesn't.
func (s *Server) ListLostSagas(
	ctx context.Context, request *treatyv1.ListLostSagasRequest,
) (*treatyv1.ListLostSagasResponse, error) {
	size, err := pageSize(request.GetPageSize(), defaultSagas)
	if err != nil {
		return nil, err
	}
	list, params := newPageList("lost"), journal.LostParams{Limit: size + 1}
	if request.GetPageToken() != "" {
		at, err := parseToken(request.GetPageToken(), list)
		if err != nil {
			return nil, err
		}
		params.After = at.id
	}
	found, err := s.store.Lost(ctx, params)
	if err != nil {
		return nil, err
	}
	response := new(treatyv1.ListLostSagasResponse)
	if len(found) > size {
		found = found[:size]
		response.NextPageToken = pagePosition{id: found[size-1].ID}.token(list)
	}
	for _, lost := range found {
		response.LostSagas = append(response.LostSagas, lostSagaOf(lost))
	}
	return response, nil
}

func lostSagaOf(lost journal.LostSaga) *treatyv1.LostSaga {
	saga := &treatyv1.LostSaga{
		Name: wire.SagaName(lost.ID), FindTime: timestamppb.New(lost.FoundTime),
		Start: lostStarts[engine.SourceOfID(lost.ID)],
	}
	var start time.Time
	for _, known := range lost.Commands {
		if engine.OfParent(lost.ID, known) {
			saga.Definition, saga.ParentStep = known.Method, known.CommandID
			saga.Start = treatyv1.LostSagaStart_LOST_SAGA_START_PARENT
		}
		command := &treatyv1.LostCommand{
			Name: known.CommandID, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION, Method: known.Method,
			Participant: known.Participant, RequestDigest: known.Digest,
		}
		if known.Compensation {
			command.Direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
		}
		verdict := treatyv1.CommandVerdict(known.Verdict).String()
		command.Verdict = strings.ToLower(strings.TrimPrefix(verdict, "COMMAND_VERDICT_"))
		saga.Commands = append(saga.Commands, command)
		if start.IsZero() {
			start = known.Start
		}
	}
	if !start.IsZero() {
		saga.CreateTime = timestamppb.New(start)
	}
	return saga
}

// lostStarts says how a saga was started whose id comes from a source.
var lostStarts = map[engine.IDSource]treatyv1.LostSagaStart{
	engine.IDFromRequestID: treatyv1.LostSagaStart_LOST_SAGA_START_REQUEST_ID,
	engine.IDFromParent:    treatyv1.LostSagaStart_LOST_SAGA_START_PARENT,
	engine.IDFromCaller:    treatyv1.LostSagaStart_LOST_SAGA_START_SAGA_ID,
	engine.IDFromTime:      treatyv1.LostSagaStart_LOST_SAGA_START_WITHOUT_ID,
}

// DeleteLostSaga removes a saga from the lost sagas.
func (s *Server) DeleteLostSaga(
	ctx context.Context, request *treatyv1.DeleteLostSagaRequest,
) (*treatyv1.DeleteLostSagaResponse, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	decision, err := completeDecisionOf(ctx, request.GetDecision(), "for people who ask later what became of it")
	if err != nil {
		return nil, err
	}
	err = s.engine.ForgetLost(ctx, id, decision)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, &apiError{
			code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND,
			message: wire.SagaName(id) + " isn't lost",
		}
	}
	if err != nil {
		return nil, err
	}
	return &treatyv1.DeleteLostSagaResponse{}, nil
}
