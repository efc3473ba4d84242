package server

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ListParticipants lists the participants with what is known of them now.
func (s *Server) ListParticipants(
	context.Context, *treatyv1.ListParticipantsRequest,
) (*treatyv1.ListParticipantsResponse, error) {
	response := new(treatyv1.ListParticipantsResponse)
	if s.participants != nil {
		response.Participants = s.participants()
	}
	return response, nil
}
