package company

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/treatyhq/treaty/internal/wire"
)

// Backup backs the orchestrator's store up into a new file, while the orchestrator may be running.
func (c *Company) Backup(ctx context.Context, to string) error {
	return c.orchestrator(ctx, "backup", "--to", to)
}

// Restore kills the orchestrator, replaces its store by a backup, as an operator does after a disk has failed, and
// starts the orchestrator again.
func (c *Company) Restore(ctx context.Context, backup string) error {
	p := c.Process(Orchestrator)
	if err := p.Kill(); err != nil {
		return err
	}
	copied, err := os.ReadFile(backup)
	if err != nil {
		return fmt.Errorf("restoring the store: %w", err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(c.Store() + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("restoring the store: %w", err)
		}
	}
	if err := os.WriteFile(c.Store(), copied, 0o600); err != nil {
		return fmt.Errorf("restoring the store: %w", err)
	}
	if err := c.orchestrator(ctx, "restore"); err != nil {
		return err
	}
	return p.Start()
}

// RepublishDecisions makes the register publish all of its decisions again, as publishers do after the store with their
// events was restored. The identity service is restarted.
func (c *Company) RepublishDecisions(ctx context.Context) (err error) {
	p := c.Process(Identity)
	if err := p.Kill(); err != nil {
		return err
	}
	db, err := c.openDatabase(Identity, ".register")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `UPDATE registrations SET published = 0`)
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("publishing the register's decisions again: %w", err)
	}
	return p.Start()
}

// lost returns the names of the sagas that the orchestrator lists as lost.
func (c *Company) lost(ctx context.Context) (names []string, err error) {
	db, err := c.openDatabase("treaty", "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.query(ctx, `SELECT id FROM lost ORDER BY id`, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		names = append(names, wire.SagaName(id))
		return err
	})
	return names, err
}

// orchestrator runs a subcommand of the orchestrator's program on its store.
func (c *Company) orchestrator(ctx context.Context, subcommand string, args ...string) error {
	args = append([]string{subcommand, "--store", c.Store()}, args...)
	return run(ctx, c.Dir, binary(filepath.Join(c.Dir, "bin"), Orchestrator), args...)
}
