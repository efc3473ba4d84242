package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// mark is a note in the lock file of what was acknowledged last, so that a store which lacks it is noticed. SQLite
// itself ignores a damaged end of a write-ahead log, since it can't tell it from a transaction that was never
// committed.
//
// A mark is written after each commit, and not synced. So what it names is durable, but after a loss of power it may be
// an old one. It isn't safe for concurrent use.
type mark struct {
	file *os.File
	set  bool // whether the file may hold a mark
	data [markSize]byte
}

// marked is what a mark names.
type marked struct {
	turn  int64 // the position of a turn, or 0
	event int64 // the position of the newest event, or 0
}

const (
	markOffset = lockSize
	markSize   = 20 // two positions and their checksum
)

func newMark(file *os.File) *mark { return &mark{file: file, set: true} }

// write writes the mark. A failure leaves an older one, or none.
func (m *mark) write(now marked) {
	m.set = true
	binary.BigEndian.PutUint64(m.data[0:], uint64(now.turn))
	binary.BigEndian.PutUint64(m.data[8:], uint64(now.event))
	binary.BigEndian.PutUint32(m.data[16:], crc32.Checksum(m.data[:16], castagnoli))
	_, _ = m.file.WriteAt(m.data[:], markOffset) // an old mark is a weaker promise, but never a wrong one
}

// clear removes the mark durably. It must be called before turns are deleted that a mark may name.
func (m *mark) clear() error {
	if m == nil || !m.set {
		return nil
	}
	if _, err := m.file.WriteAt(make([]byte, markSize), markOffset); err != nil {
		return fmt.Errorf("clear the mark in %s: %w", m.file.Name(), err)
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("clear the mark in %s: %w", m.file.Name(), err)
	}
	m.set = false
	return nil
}

// read returns the mark. It is zero if there is none that is whole.
func (m *mark) read() (was marked, err error) {
	if _, err := m.file.ReadAt(m.data[:], markOffset); err != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return was, err
	}
	if binary.BigEndian.Uint32(m.data[16:]) != crc32.Checksum(m.data[:16], castagnoli) {
		return was, nil
	}
	return marked{
		turn:  int64(binary.BigEndian.Uint64(m.data[0:])),
		event: int64(binary.BigEndian.Uint64(m.data[8:])),
	}, nil
}

// checkMark returns an ErrGone if the store lacks what the mark names. A backup, which can't be opened anyway, may.
func (w *writer) checkMark(was marked) error {
	if _, backup, err := readText(w.conn, backupTimeRow); err != nil || backup {
		return err
	}
	missing := was.event > w.newest
	if was.turn != 0 && !missing {
		stmt, _, err := w.conn.Prepare(`SELECT first_turn > (?1 & 0xffffff)
			OR EXISTS (SELECT 1 FROM turns WHERE position = ?1) FROM sagas WHERE key = ?1 >> 24`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		if err := stmt.BindInt64(1, was.turn); err != nil {
			return err
		}
		missing = !stmt.Step() || !stmt.ColumnBool(0)
		if err := stmt.Err(); err != nil {
			return err
		}
	}
	if !missing {
		return nil
	}
	newest, err := lastChange(w.conn)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w in part: what was acknowledged last is missing, because the write-ahead log was damaged or "+
		"removed, or the file was replaced; restore it from a backup, or run the subcommand restore of the "+
		"orchestrator with --since %s, when the newest saga that is left last changed, or earlier",
		journal.ErrGone, newest)
}

// lastChange returns when a saga last changed, as text.
func lastChange(conn *sqlite3.Conn) (string, error) {
	newest, err := queryInt(conn, `SELECT ifnull(max(update_time), 0) FROM sagas`)
	return time.UnixMicro(newest).UTC().Format(time.RFC3339), err
}
