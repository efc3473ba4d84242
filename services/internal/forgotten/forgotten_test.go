package forgotten_test

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

func TestForgotten(t *testing.T) {
	db, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: filepath.Join(t.TempDir(), "service.db"),
		Migrations: []string{forgotten.SQLiteSchema}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		if err := forgotten.Add(t.Context(), db, "customers/ada"); err != nil {
			t.Fatal(err)
		}
	}
	for customer, want := range map[string]codes.Code{"customers/ada": codes.FailedPrecondition,
		"customers/bob": codes.OK, "": codes.OK} {
		if err := forgotten.Refuse(t.Context(), db, customer); status.Code(err) != want {
			t.Errorf("%q: %v, want %v", customer, err, want)
		}
		if found, err := forgotten.Has(t.Context(), db, customer); err != nil || found != (want != codes.OK) {
			t.Errorf("%q is forgotten: %v, %v", customer, found, err)
		}
	}
}
