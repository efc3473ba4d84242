package orchestrator_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// TestStopsWhenTheStoreIsGone deletes the store of an orchestrator that serves. It stops by itself, with an error.
func TestStopsWhenTheStoreIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "treaty.db")
	o, err := orchestrator.New(
		orchestrator.WithStore(path), orchestrator.WithLogger(testkit.Logger(t)),
		orchestrator.WithReady(func(orchestrator.Ready) {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.ListenAndServe(t.Context(), "127.0.0.1:0"); !errors.Is(err, orchestrator.ErrStoreGone) {
		t.Errorf("Serve returned %v, want ErrStoreGone", err)
	}
}
