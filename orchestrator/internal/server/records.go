package server

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// maxTurnsRead limits the turns that are read from the store at a time.
const maxTurnsRead = 100

// ListSagaRecords lists the records of a saga's journal, redacted.
func (s *Server) ListSagaRecords(
	ctx context.Context, request *treatyv1.ListSagaRecordsRequest,
) (*treatyv1.ListSagaRecordsResponse, error) {
	id, err := parseName("parent", request.GetParent())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(request.GetPageSize(), defaultRecords)
	if err != nil {
		return nil, err
	}
	list := newPageList("records", id)
	var after uint64
	if request.GetPageToken() != "" {
		at, err := parseToken(request.GetPageToken(), list)
		if err != nil {
			return nil, err
		}
		after = uint64(at.number)
	}
	response := new(treatyv1.ListSagaRecordsResponse)
	redactor := recordRedactor{
		catalog: s.catalog,
		steps:   make(map[string]*treatyv1.StepScheduled),
		waits:   make(map[string]*treatyv1.WaitScheduled),
	}
	hidden := recordTexts{server: s}
	// Reading begins with the first turn: the type of a reply depends on its step, which an early turn may have
	// scheduled.
	for read := uint64(0); ; {
		turns, err := s.store.Turns(ctx, id, read, maxTurnsRead)
		if err != nil {
			return nil, err
		}
		for _, stored := range turns {
			if len(response.Records) >= size {
				response.NextPageToken = pagePosition{number: int64(read)}.token(list)
				return response, nil
			}
			turn := new(treatyv1.Turn)
			if err := proto.Unmarshal(stored.Data, turn); err != nil {
				return nil, fmt.Errorf("%w: saga %s, turn %d: %w", journal.ErrCorrupt, id, stored.Number, err)
			}
			for i, record := range turn.GetRecords() {
				redactor.observe(record)
				hidden.hide(ctx, record)
				if stored.Number <= after {
					continue
				}
				redactor.redact(record)
				response.Records = append(response.Records, &treatyv1.SagaRecord{
					Name: wire.RecordName(id, fmt.Sprintf("%d-%d", stored.Number, i+1)),
					Time: turn.GetTime(), Record: record,
				})
			}
			read = stored.Number
		}
		if len(turns) < maxTurnsRead {
			return response, nil
		}
	}
}
