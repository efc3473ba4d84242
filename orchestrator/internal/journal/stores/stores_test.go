package stores_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
)

func TestCheck(t *testing.T) {
	tests := map[string]string{
		"treaty.db":                          "",
		"/var/lib/acme/treaty.db":            "",
		`C:\acme\treaty.db`:                  "",
		"":                                   "the store has no name",
		"://localhost/treaty":                `nothing before "://"`,
		"postgres://acme:secret@host/db":     "",
		"mysql://acme:secret@localhost/acme": `stores of the kind "mysql" are not supported`,
	}
	for url, want := range tests {
		err := stores.Check(url)
		if want == "" {
			if err != nil {
				t.Errorf("Check(%q) = %v, want nil", url, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "treaty.db") {
			t.Errorf("Check(%q) = %v, want %q and an example", url, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("Check(%q) = %v, which has the password", url, err)
		}
	}
}

func TestOpenUnknownScheme(t *testing.T) {
	const url = "mysql://localhost/acme"
	if store, err := stores.Open(t.Context(), url, journal.Opening{}); err == nil || store != nil {
		t.Errorf("Open = %v, %v; want nil and an error", store, err)
	}
	if store, err := stores.OpenReadOnly(t.Context(), url); err == nil || store != nil {
		t.Errorf("OpenReadOnly = %v, %v; want nil and an error", store, err)
	}
}

func TestOpenFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "treaty.db")
	if reader, err := stores.OpenReadOnly(t.Context(), path); !errors.Is(err, fs.ErrNotExist) || reader != nil {
		t.Errorf("OpenReadOnly of no file = %v, %v; want nil and fs.ErrNotExist", reader, err)
	}
	store, err := stores.Open(t.Context(), path, journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := stores.Open(t.Context(), path, journal.Opening{}); !errors.Is(err, journal.ErrLocked) ||
		other != nil {
		t.Errorf("second Open = %v, %v; want nil and ErrLocked", other, err)
	}
	reader, err := stores.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if store.Name() != path || reader.Name() != path {
		t.Errorf("names are %q and %q, want %q", store.Name(), reader.Name(), path)
	}
	if store.Epoch() == 0 || reader.Epoch() != store.Epoch() {
		t.Errorf("epochs are %d and %d, want the same", store.Epoch(), reader.Epoch())
	}
	if err := errors.Join(reader.Close(), store.Close(), store.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestDisplay(t *testing.T) {
	for url, want := range map[string]string{
		"treaty.db": "treaty.db",
		"postgres://acme:secret@host:5432/db?password=secret": "postgres://acme@host:5432/db",
		"postgresql://host/db":                                "postgresql://host/db",
		"postgres://acme:secret@ho st/db":                     "the PostgreSQL database",
	} {
		if got := stores.Display(url); got != want {
			t.Errorf("Display(%q) = %q, want %q", url, got, want)
		}
	}
}
