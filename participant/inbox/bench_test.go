package inbox_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// BenchmarkHandle handles distinct commands of one scope, each with one INSERT, from a number of callers. Divide the
// CPU time of a profile by the number of commands for the cost of one.
func BenchmarkHandle(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(b.TempDir(), "service.db")))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			if _, err := db.ExecContext(b.Context(), effectsTable); err != nil {
				b.Fatal(err)
			}
			in, err := inbox.OpenSQLite(b.Context(), db, inbox.Options{})
			if err != nil {
				b.Fatal(err)
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						if err := insertOnce(b.Context(), in, fmt.Sprintf("sagas/s%d", n)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// insertOnce handles the first step of a saga, whose handler inserts one row.
func insertOnce(ctx context.Context, in *inbox.Inbox, saga string) error {
	command := participant.Command{
		Saga: saga, CommandID: saga + "/steps/1", Direction: participant.Action, Attempt: 1, Epoch: 1, Scope: "/0",
		RequestDigest: digest, Start: noon,
	}
	ctx = participant.NewContext(ctx, command)
	_, err := inbox.Handle(ctx, in, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO effects (command_id, direction) VALUES (?, ?)`, command.CommandID,
			string(command.Direction))
		return &customerv1.AddressChanged{Customer: command.Saga}, err
	})
	return err
}
