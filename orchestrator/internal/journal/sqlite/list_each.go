package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eachPage is how many keys listEach reads at a time.
const eachPage = 512

// eachQuery finds sagas in the order of their creation, without reading their rows.
const eachQuery = `SELECT key, create_time FROM sagas INDEXED BY sagas_by_create_time
	WHERE (create_time, key) > (?1, ?2) ORDER BY create_time, key LIMIT ?3`

// listEach is List for a store in which a page of rows is damaged. It finds the sagas in an index, and reads each row
// on its own. A row that can't be read is returned with its id, its time of creation and Err if there is no filter: it
// isn't known whether a filter selects it. It reads all sagas, so it takes some microseconds for each.
func (r *reader) listEach(params journal.ListParams, path string) ([]*journal.Row, error) {
	var rows []*journal.Row
	for lastTime, lastKey := int64(-1<<63), int64(-1); ; {
		keys, times, err := r.keysAfter(lastTime, lastKey)
		if err != nil {
			return nil, err
		}
		for i, key := range keys {
			row, err := r.listOne(params, key, times[i], path)
			if err != nil {
				return nil, err
			}
			if row != nil && (params.After == nil || compareRows(row, params.After, params.Order) > 0) {
				rows = append(rows, row)
			}
		}
		if len(rows) > 2*params.Limit { // the others aren't on this page
			rows = firstRows(rows, params)
		}
		if len(keys) < eachPage {
			return firstRows(rows, params), nil
		}
		lastTime, lastKey = times[len(times)-1].UnixMicro(), keys[len(keys)-1]
	}
}

func (r *reader) keysAfter(after, key int64) (keys []int64, times []time.Time, err error) {
	err = r.query(eachQuery, []any{after, key, int64(eachPage)}, func(stmt *sqlite3.Stmt) error {
		keys, times = append(keys, stmt.ColumnInt64(0)), append(times, columnTime(stmt, 1))
		return nil
	})
	return keys, times, err
}

// listOne returns one row, or nil if the filter doesn't select it.
func (r *reader) listOne(params journal.ListParams, key int64, created time.Time, path string) (*journal.Row, error) {
	one := params
	one.After = nil
	sql, args := rowsQuery(one, updateTime)
	args = append(args, key)
	var row *journal.Row
	err := r.query(fmt.Sprintf("%s AND s.key = ?%d", sql, len(args)), args, func(stmt *sqlite3.Stmt) error {
		saga, err := scanRow(stmt)
		if row = &saga.row; err != nil {
			row.Err = explain("list saga "+row.ID+" in the store", path, err)
		}
		return nil
	})
	cause, _ := diagnose(err)
	switch {
	case !errors.Is(cause, journal.ErrCorrupt):
		return row, err
	case params.Filter != nil:
		return nil, nil
	}
	damaged := &journal.Row{CreateTime: created, UpdateTime: created}
	const idQuery = `SELECT id FROM sagas INDEXED BY sqlite_autoindex_sagas_1 WHERE id > '' AND key = ?`
	if err := r.query(idQuery, []any{key}, func(stmt *sqlite3.Stmt) error {
		damaged.ID = stmt.ColumnText(0)
		return nil
	}); err != nil {
		return nil, err
	}
	damaged.Err = explain("list saga "+damaged.ID+" in the store", path, err)
	return damaged, nil
}

// firstRows returns the first rows of a page.
func firstRows(rows []*journal.Row, params journal.ListParams) []*journal.Row {
	slices.SortFunc(rows, func(a, b *journal.Row) int { return compareRows(a, b, params.Order) })
	return rows[:min(params.Limit, len(rows))]
}

func compareRows(a, b *journal.Row, order journal.Order) int {
	of := func(row *journal.Row) int64 {
		if order.By == journal.OrderByUpdateTime {
			return row.UpdateTime.UnixMicro()
		}
		return row.CreateTime.UnixMicro()
	}
	compared := cmp.Or(cmp.Compare(of(a), of(b)), strings.Compare(a.ID, b.ID))
	if order.Descending {
		return -compared
	}
	return compared
}
