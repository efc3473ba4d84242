package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// fillPages appends turns to three sagas. Each turn fills a page of the file.
func fillPages(t *testing.T, path string) {
	t.Helper()
	store := openAt(t, path)
	for turn := range uint64(3) {
		if err := store.Append(t.Context(), pageTurns(turn+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// pageTurns returns a turn of each of three sagas.
func pageTurns(turn uint64) []*journal.Entry {
	var group []*journal.Entry
	for i := range 3 {
		id := fmt.Sprint(i)
		group = append(group, &journal.Entry{
			Saga: id, Turn: turn, Data: bytes.Repeat(fmt.Appendf(nil, "(%d of %d)", turn, i), 480),
			Row: &journal.Row{
				ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING,
				Labels: map[string]string{"label": id},
			},
		})
	}
	return group
}

// damagePage overwrites the beginning of the page with a text.
func damagePage(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte(text))
	if at < 0 {
		t.Fatal("the text isn't in the file")
	}
	const pageSize = 4096
	copy(file[at/pageSize*pageSize:], bytes.Repeat([]byte{0xff}, 16))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAppendWithDamage appends to three sagas, of which one has a page that can't be read. The others are written.
func TestAppendWithDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	fillPages(t, path)
	damagePage(t, path, "(3 of 1)(3 of 1)")
	store := openAt(t, path)
	defer store.Close()
	group := pageTurns(4)
	if err := store.Append(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	for i, entry := range group {
		if damaged := i == 1; errors.Is(entry.Err, journal.ErrCorrupt) != damaged || (entry.Err != nil) != damaged {
			t.Errorf("saga %d: %v", i, entry.Err)
		}
	}
	for _, id := range []string{"0", "2"} {
		if saga, err := store.Load(t.Context(), id); err != nil || len(saga.Turns) != 4 {
			t.Errorf("saga %s: %v", id, err)
		}
	}
	if err := store.Append(t.Context(), group[1:2]); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("alone: %v", err)
	}
}

// TestOpenWithDamagedRow opens three sagas, of which one has a row on a page that can't be read. It is named.
func TestOpenWithDamagedRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	fillPages(t, path)
	edit(t, path, `UPDATE sagas SET labels = json_object('label', printf('%.3500c', id)); VACUUM;
		PRAGMA wal_checkpoint(TRUNCATE)`)
	damagePage(t, path, strings.Repeat("1", 3000))
	openDamaged(t, path)
}

// openDamaged checks that the second of three open sagas is damaged.
func openDamaged(t *testing.T, path string) {
	t.Helper()
	store := openAt(t, path)
	defer store.Close()
	for _, which := range []journal.OpenSagas{journal.Driven, journal.Unended} {
		open, err := store.Open(t.Context(), journal.OpenParams{Limit: 10, Which: which})
		if err != nil || len(open) != 3 {
			t.Fatalf("%d sagas are open, %v; want 3", len(open), err)
		}
		for i, saga := range open {
			damaged := i == 1
			if saga.Row.ID != fmt.Sprint(i) || errors.Is(saga.Err, journal.ErrCorrupt) != damaged ||
				(len(saga.Turns) == 3) == damaged {
				t.Errorf("saga %d: %+v, %v", i, saga.Row, saga.Err)
			}
		}
	}
}

// TestOpenWithDamagedTurn opens three sagas, of which one has a turn on a page that can't be read. It is named.
func TestOpenWithDamagedTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	fillPages(t, path)
	damagePage(t, path, "(2 of 1)(2 of 1)")
	openDamaged(t, path)
}

// TestListWithDamage lists sagas, of which one has labels that can't be read. All are listed, and only that one says
// so.
func TestListWithDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	fillPages(t, path)
	edit(t, path, "UPDATE sagas SET labels = '{' WHERE id = '1'")
	store := openAt(t, path)
	defer store.Close()
	var found []string
	var after *journal.Row
	for {
		rows, err := store.List(t.Context(), journal.ListParams{After: after, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			break
		}
		after = rows[0]
		found = append(found, after.ID)
		if damaged := after.ID == "1"; errors.Is(after.Err, journal.ErrCorrupt) != damaged {
			t.Errorf("saga %s: %v", after.ID, after.Err)
		}
	}
	if !slices.Equal(found, []string{"0", "1", "2"}) {
		t.Errorf("found %q", found)
	}
}

// TestListWithDamagedPage lists sagas, of which one has a row on a page that can't be read. All are listed in every
// order, and that one says that it is damaged. Filters leave it out.
func TestListWithDamagedPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	fillPages(t, path)
	edit(t, path, `UPDATE sagas SET labels = json_object('label', printf('%.3500c', id)),
		create_time = 1000000 * id, update_time = 1000000 * (9 - id); VACUUM; PRAGMA wal_checkpoint(TRUNCATE)`)
	damagePage(t, path, strings.Repeat("1", 3000))
	store := openAt(t, path)
	defer store.Close()
	for _, test := range []struct {
		order journal.Order
		want  []string
	}{
		{journal.Order{}, []string{"0", "1", "2"}},
		{journal.Order{Descending: true}, []string{"2", "1", "0"}},
		{journal.Order{By: journal.OrderByUpdateTime}, []string{"1", "2", "0"}}, // its update time isn't known
	} {
		for _, limit := range []int{1, 2, 3, 9} {
			var found []string
			for params := (journal.ListParams{Order: test.order, Limit: limit}); ; {
				rows, err := store.List(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					found = append(found, row.ID)
					if damaged := row.ID == "1"; errors.Is(row.Err, journal.ErrCorrupt) != damaged {
						t.Errorf("saga %s: %v", row.ID, row.Err)
					}
				}
				if len(rows) < limit {
					break
				}
				params.After = rows[len(rows)-1]
			}
			if !slices.Equal(found, test.want) {
				t.Errorf("%+v in pages of %d: found %q, want %q", test.order, limit, found, test.want)
			}
		}
	}
	running := &journal.Filter{Op: journal.Equal, Field: journal.FieldState, Text: "RUNNING"}
	rows, err := store.List(t.Context(), journal.ListParams{Filter: running, Limit: 9})
	if err != nil || len(rows) != 2 {
		t.Errorf("%d running sagas, %v; want 2", len(rows), err)
	}
}
