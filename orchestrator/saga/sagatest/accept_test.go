package sagatest

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
)

// TestAcceptIsNoError accepts a command. Nothing is wrong with that, so nothing is logged.
func TestAcceptIsNoError(t *testing.T) {
	code, catalog, err := collect(move(moveAll).register)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w, err := newWorld(worldParams{
			t: t, code: code, catalog: catalog, logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Script(customerv1.CustomerService_ChangeAddress_FullMethodName, Accept(time.Hour))
		s := w.Start(moves, toMove())
		s.WantWaits("ChangeAddress")
		w.stop()
		if log.Len() > 0 {
			t.Errorf("it logs\n%s", log.String())
		}
	})
}
