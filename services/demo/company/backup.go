package company

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Backup backs the orchestrator's store up into a new file, while the orchestrator may be running.
func (c *Company) Backup(ctx context.Context, to string) error {
	return c.orchestrator(ctx, c.Store(), "backup", "--to", to)
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
	if err := c.orchestrator(ctx, c.Store(), "restore"); err != nil {
		return err
	}
	return p.Start()
}

// lost returns the names of the sagas that the orchestrator lists as lost. An older orchestrator lists none.
func (c *Company) lost(ctx context.Context) (names []string, err error) {
	client := treatyv1.NewSagaServiceClient(c.Conn(Orchestrator))
	request := &treatyv1.ListLostSagasRequest{PageSize: 1000}
	for {
		page, err := client.ListLostSagas(ctx, request)
		switch {
		case status.Code(err) == codes.Unimplemented:
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("listing lost sagas: %w", err)
		}
		for _, saga := range page.GetLostSagas() {
			names = append(names, saga.GetName())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return names, nil
		}
	}
}

// orchestrator runs a subcommand of the orchestrator's program on a store.
func (c *Company) orchestrator(ctx context.Context, store, subcommand string, args ...string) error {
	args = append([]string{subcommand, "--store", store}, args...)
	return run(ctx, c.Dir, Binary(c.Programs, Orchestrator), args...)
}
