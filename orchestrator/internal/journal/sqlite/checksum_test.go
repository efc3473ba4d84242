package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestChangedByte changes one bit of one turn in the file. Only that saga can't be read, and the error names the turn.
func TestChangedByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	for turn := range uint64(3) {
		var group []*journal.Entry
		for i := range 3 {
			id := fmt.Sprint(i)
			group = append(group, &journal.Entry{
				Saga: id, Turn: turn + 1, Data: fmt.Appendf(nil, "turn %d of saga %d", turn+1, i),
				Row: &journal.Row{ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING},
			})
		}
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte("turn 2 of saga 1"))
	if at < 0 {
		t.Fatal("the turn isn't in the file")
	}
	file[at] ^= 1
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}

	store = openAt(t, path)
	defer store.Close()
	wrong := func(doing string, err error) {
		t.Helper()
		if !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), "turn 2 of saga 1") {
			t.Errorf("%s: %v, want an ErrCorrupt that names the turn", doing, err)
		}
	}
	_, err = store.Load(t.Context(), "1")
	wrong("loading", err)
	_, err = store.Turns(t.Context(), "1", 0, 10)
	wrong("reading turns", err)
	if turns, err := store.Turns(t.Context(), "1", 2, 10); err != nil || len(turns) != 1 {
		t.Errorf("the turns behind it: %v, %v", turns, err)
	}
	open, err := store.Open(t.Context(), journal.OpenParams{Limit: 10})
	if err != nil || len(open) != 3 {
		t.Fatalf("%d sagas are open, %v; want 3", len(open), err)
	}
	wrong("opening", open[1].Err)
	for _, i := range []int{0, 2} {
		if open[i].Err != nil || len(open[i].Turns) != 3 {
			t.Errorf("saga %d: %+v", i, open[i])
		}
	}
}

// TestChecksum compares the checksum with that of the library, which needs an allocation.
func TestChecksum(t *testing.T) {
	for _, data := range [][]byte{nil, {0}, []byte("turn"), bytes.Repeat([]byte{0xff}, 4096)} {
		for _, position := range []int64{0, 1, 1 << 24, -1, 0x0123456789abcdef} {
			at := binary.BigEndian.AppendUint64(nil, uint64(position))
			want := int64(crc32.Checksum(slices.Concat(data, at), castagnoli))
			if got := checksum(position, data); got != want {
				t.Errorf("position %x, %d bytes: %x, want %x", position, len(data), got, want)
			}
			if n := testing.AllocsPerRun(10, func() { checksum(position, data) }); n != 0 {
				t.Errorf("position %x, %d bytes: %v allocations", position, len(data), n)
			}
		}
	}
}
