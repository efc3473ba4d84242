package server

import (
	"go.einride.tech/aip/ordering"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// parseOrder parses the field order_by.
func parseOrder(text string) (journal.Order, error) {
	const field, help = "order_by", `: write "create_time" or "update_time", with " desc" for the newest first`
	var parsed ordering.OrderBy
	if err := parsed.UnmarshalString(text); err != nil {
		return journal.Order{}, invalid(field, "%q can't be read%s", untrusted.Shorten(text), help)
	}
	switch {
	case len(parsed.Fields) == 0:
		return journal.Order{By: journal.OrderByCreateTime, Descending: true}, nil
	case len(parsed.Fields) > 1:
		return journal.Order{}, invalid(field, "has %d fields, and one is allowed%s", len(parsed.Fields), help)
	}
	order := journal.Order{Descending: parsed.Fields[0].Desc}
	switch path := parsed.Fields[0].Path; path {
	case "create_time":
		order.By = journal.OrderByCreateTime
	case "update_time":
		order.By = journal.OrderByUpdateTime
	default:
		return journal.Order{}, invalid(field, "%q can't be ordered by%s", untrusted.Shorten(path), help)
	}
	return order, nil
}
