package sqlite

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
)

const (
	// busyTimeout is how long to wait while another program writes to the file.
	busyTimeout = 5 * time.Second

	// engineMemory limits the memory of one connection. It is address space, which is allocated only when it is needed.
	engineMemory = 1 << 30
)

// connect opens a connection and runs the pragmas in order.
func connect(ctx context.Context, path string, options options, pragmas ...string) (conn *sqlite3.Conn, err error) {
	defer recoverPanic(&err)
	if err := registerFilesystem(); err != nil {
		return nil, err
	}
	name := filepath.ToSlash(path)
	if !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	query := url.Values{"vfs": {options.vfs}}
	if options.readOnly {
		query.Set("mode", "ro")
	}
	uri := url.URL{Scheme: "file", OmitHost: true, Path: name, RawQuery: query.Encode()}
	opened, err := sqlite3.OpenContext(sqlite3.WithMaxMemory(ctx, engineMemory), uri.String())
	if err != nil {
		return nil, err
	}
	opened.SetInterrupt(ctx)
	defer func() {
		opened.SetInterrupt(context.Background())
		if err != nil {
			_ = opened.Close() // err is more important
		}
	}()
	if err := opened.BusyTimeout(busyTimeout); err != nil {
		return nil, err
	}
	for _, pragma := range pragmas {
		if err := opened.Exec("PRAGMA " + pragma); err != nil {
			return nil, err
		}
	}
	return opened, nil
}

// prepare compiles a statement for the lifetime of the connection.
func prepare(conn *sqlite3.Conn, sql string) (*sqlite3.Stmt, error) {
	stmt, _, err := conn.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	return stmt, nil
}
