package server

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// PurgeSaga deletes a saga that has ended.
func (s *Server) PurgeSaga(
	ctx context.Context, request *treatyv1.PurgeSagaRequest,
) (*treatyv1.PurgeSagaResponse, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	decision, err := completeDecisionOf(ctx, request.GetDecision(), "for people who ask later what became of it")
	if err != nil {
		return nil, err
	}
	purged, err := s.engine.Purge(ctx, id, decision)
	if err != nil {
		return nil, err
	}
	return &treatyv1.PurgeSagaResponse{PurgedSagas: int32(purged)}, nil
}
