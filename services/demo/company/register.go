package company

import (
	"context"
	"errors"
	"fmt"
)

// RepublishDecisions makes the register publish all of its decisions again, as publishers do after the store with their
// events was restored. The identity service is restarted.
func (c *Company) RepublishDecisions(ctx context.Context) (err error) {
	p := c.Process(Identity)
	if err := p.Kill(); err != nil {
		return err
	}
	if err := c.changeRegister(ctx, `UPDATE registrations SET published = 0`); err != nil {
		return fmt.Errorf("publishing the register's decisions again: %w", err)
	}
	return p.Start()
}

// DowngradeRegister takes back what the current version changed in the register's database, which belongs to a third
// party, so that an older identity service opens it. The identity service must not be running.
func (c *Company) DowngradeRegister(ctx context.Context) error {
	if err := c.changeRegister(ctx, `
		UPDATE registrations SET decide_time = NULL WHERE published = 1;
		DROP INDEX unpublished;
		ALTER TABLE registrations DROP COLUMN published;
		CREATE INDEX undecided ON registrations (decide_time) WHERE decide_time IS NOT NULL AND withdrawn = 0;
		PRAGMA user_version = 2`); err != nil {
		return fmt.Errorf("downgrading the register: %w", err)
	}
	return nil
}

func (c *Company) changeRegister(ctx context.Context, script string) error {
	db, err := c.openDatabase(Identity, ".register")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, script)
	return errors.Join(err, db.Close())
}
