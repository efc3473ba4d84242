package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	defaultSagas   = 50
	defaultRecords = 100
	maxPage        = 1000
)

// pageSize returns the size of a page. It limits a larger request to maxPage.
func pageSize(asked int32, usual int) (int, error) {
	switch {
	case asked < 0:
		return 0, invalid("page_size", "is %d: want 1 to %d, or leave it out", asked, maxPage)
	case asked == 0:
		return usual, nil
	default:
		return min(int(asked), maxPage), nil
	}
}

// ListSagas lists sagas, without their steps and payloads.
func (s *Server) ListSagas(
	ctx context.Context, request *treatyv1.ListSagasRequest,
) (*treatyv1.ListSagasResponse, error) {
	size, err := pageSize(request.GetPageSize(), defaultSagas)
	if err != nil {
		return nil, err
	}
	filter, err := s.filters().parse(request.GetFilter())
	if err != nil {
		return nil, err
	}
	if filter, err = s.onlyReadable(ctx, filter); err != nil {
		return nil, err
	}
	order, err := parseOrder(request.GetOrderBy())
	if err != nil {
		return nil, err
	}
	list := newPageList("sagas", request.GetFilter(), request.GetOrderBy())
	params := journal.ListParams{Filter: filter, Order: order, Limit: size + 1}
	if request.GetPageToken() != "" {
		at, err := parseToken(request.GetPageToken(), list)
		if err != nil {
			return nil, err
		}
		params.After = at.row(order)
	}
	rows, err := s.store.List(ctx, params)
	if err != nil {
		return nil, err
	}
	response := &treatyv1.ListSagasResponse{NotDriven: s.notDriven()}
	if len(rows) > size {
		rows = rows[:size]
		last := rows[size-1]
		response.NextPageToken = pagePosition{id: last.ID, number: ordered(last, order).UnixMicro()}.token(list)
	}
	for _, row := range rows {
		saga := sagaOf(row)
		saga.Damage = s.damageOf(ctx, row)
		response.Sagas = append(response.Sagas, saga)
	}
	return response, nil
}

// onlyReadable returns a filter that leaves out the sagas that the caller may not read.
func (s *Server) onlyReadable(ctx context.Context, filter *journal.Filter) (*journal.Filter, error) {
	definitions, err := question{server: s, ctx: ctx, method: "treaty.v1.SagaService/ListSagas"}.readable()
	if err != nil || definitions == nil {
		return filter, err
	}
	own := make([]*journal.Filter, 0, len(definitions))
	for _, definition := range definitions {
		own = append(own, &journal.Filter{Op: journal.Equal, Field: journal.FieldDefinition, Text: definition})
	}
	allowed := own[0]
	if len(own) > 1 {
		allowed = &journal.Filter{Op: journal.Or, Args: own}
	}
	if filter == nil {
		return allowed, nil
	}
	return &journal.Filter{Op: journal.And, Args: []*journal.Filter{filter, allowed}}, nil
}

// damageOf says which part of a saga can't be read, or nothing. The log has the cause, once for each saga.
func (s *Server) damageOf(ctx context.Context, row *journal.Row) string {
	if row.Suspension == treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING && errors.Is(row.Err, journal.ErrKey) {
		return "" // its labels are missing, and the reason says why
	}
	if row.Err != nil {
		if s.firstTime("damaged row of " + row.ID) {
			s.logger.ErrorContext(ctx, "a saga is damaged in the store, and is listed without what can't be read",
				"saga", wire.SagaName(row.ID), "error", row.Err)
		}
		return "what the store lists of the saga can't be read completely; the orchestrator's log has the cause"
	}
	if !journal.Final(row.State) && s.engine.Damage(row.ID) != nil {
		return "the saga's journal can't be read, so the saga doesn't continue; the orchestrator's log has the cause"
	}
	return ""
}

// ordered returns the time by which a row is ordered.
func ordered(row *journal.Row, order journal.Order) time.Time {
	if order.By == journal.OrderByUpdateTime {
		return row.UpdateTime
	}
	return row.CreateTime
}

// row returns the last row of the previous page.
func (p pagePosition) row(order journal.Order) *journal.Row {
	row := &journal.Row{ID: p.id}
	at := time.UnixMicro(p.number).UTC()
	if order.By == journal.OrderByUpdateTime {
		row.UpdateTime = at
	} else {
		row.CreateTime = at
	}
	return row
}

// sagaOf returns the saga of a row.
func sagaOf(row *journal.Row) *treatyv1.Saga {
	saga := &treatyv1.Saga{
		Name: wire.SagaName(row.ID), Definition: row.Definition, State: row.State, Labels: row.Labels,
		RequestId:  row.RequestID,
		CreateTime: timestamppb.New(row.CreateTime), UpdateTime: timestamppb.New(row.UpdateTime),
		Etag: machine.Etag(row.Revision),
	}
	if row.Suspension != treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED {
		saga.Suspension = &treatyv1.SagaSuspended{Reason: row.Suspension}
	}
	if !row.EndTime.IsZero() {
		saga.EndTime = timestamppb.New(row.EndTime)
	}
	return saga
}
