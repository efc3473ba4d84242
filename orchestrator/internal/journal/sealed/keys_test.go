package sealed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
)

// file is a file of keys.
type file struct {
	Primary string           `json:"primary"`
	Index   string           `json:"index"`
	Keys    []map[string]any `json:"keys"`
}

func readKeys(t testing.TB, path string) (content file) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func idsIn(t testing.TB, path string) (ids []string) {
	t.Helper()
	for _, key := range readKeys(t, path).Keys {
		id, _ := key["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// without takes a key out of a file.
func without(t testing.TB, path, id string) {
	t.Helper()
	content := readKeys(t, path)
	kept := content.Keys[:0]
	for _, key := range content.Keys {
		if key["id"] != id {
			kept = append(kept, key)
		}
	}
	content.Keys = kept
	data, err := json.Marshal(content)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeysFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	created, err := sealed.CreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.CreateKeys(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating it again: %v, want fs.ErrExist", err)
	}
	added, err := sealed.RotateKeys(path)
	if err != nil || added == created {
		t.Fatalf("RotateKeys = %s, %v; want another key", added, err)
	}
	if content := readKeys(t, path); content.Primary != added || len(content.Keys) != 2 {
		t.Errorf("the file has the primary key %s and %d keys, want %s and 2", content.Primary, len(content.Keys),
			added)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v; want 0600", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v; want only the file", entries, err)
	}
}

// TestKeysFileIsPrivate checks who may read a file of keys. Kubernetes mounts Secrets as files of root, which the group
// of the process may read: a process that isn't root could read them in no other way.
func TestKeysFileIsPrivate(t *testing.T) {
	const self, another = 65532, 1000
	for _, test := range []struct {
		name        string
		mode        fs.FileMode
		owner, user int
		private     bool
	}{
		{"its own", 0o600, self, self, true},
		{"its own, which it can't change", 0o400, self, self, true},
		{"its own, for a group", 0o640, self, self, false},
		{"its own, for all", 0o604, self, self, false},
		{"root's, for its group", 0o440, 0, self, true},
		{"root's, which root can change", 0o640, 0, self, true},
		{"root's, which the group can change", 0o660, 0, self, false},
		{"root's, for all", 0o444, 0, self, false},
		{"another user's, for a group", 0o440, another, self, false},
		{"root's own, for a group", 0o440, 0, 0, false},
	} {
		if got := sealed.IsPrivate(test.mode, test.owner, test.user); got != test.private {
			t.Errorf("%s, %04o: private is %t, want %t", test.name, test.mode, got, test.private)
		}
	}
}

func TestInvalidKeysFile(t *testing.T) {
	const secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MDE="
	key := `{"id": "00000001", "key": "` + secret + `"}`
	tests := map[string]struct {
		content, want string
		mode          fs.FileMode
	}{
		"readable by the group": {`{}`, "0640", 0o640},
		"readable by others":    {`{}`, "0604", 0o604},
		"no JSON":               {"primary: " + secret, "JSON", 0o600},
		"empty":                 {"", "JSON", 0o600},
		"unknown field":         {`{"keyset": []}`, "JSON", 0o600},
		"no keys":               {`{"primary": "00000001", "index": "` + secret + `"}`, "primary key 00000001", 0o600},
		"no index":              {`{"primary": "00000001", "keys": [` + key + `]}`, "index", 0o600},
		"bad id":                {`{"index": "` + secret + `", "keys": [{"id": "1"}]}`, "eight", 0o600},
		"two with one id": {
			`{"primary": "00000001", "index": "` + secret + `", "keys": [` + key + `, ` + key + `]}`, "two keys", 0o600,
		},
		"short key": {
			`{"primary": "00000001", "index": "` + secret + `", "keys": [{"id": "00000001", "key": "c2Vj"}]}`,
			"3 bytes", 0o600,
		},
		"something behind": {`{"primary": "00000001", "index": "` + secret + `", "keys": [` + key + `]} {}`,
			"follows", 0o600},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			err := os.WriteFile(path, []byte(test.content), 0o600)
			if err := errors.Join(err, os.Chmod(path, test.mode)); err != nil {
				t.Fatal(err)
			}
			_, opening := sealed.OpenKeys(path, slog.Default())
			_, rotating := sealed.RotateKeys(path)
			for _, err := range []error{opening, rotating} {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("the error is %v, want one with the file and %q", err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error %v has a key", err)
				}
			}
		})
	}
	if _, err := sealed.OpenKeys(filepath.Join(t.TempDir(), "none"), slog.Default()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v, want fs.ErrNotExist", err)
	}
}

// TestReload replaces the file of keys by an invalid one, which isn't used, and then rotates the key.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	keysAt(t, dir)
	valid, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	keys, err := sealed.OpenKeys(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	inside := journaltest.NewMemory()
	store := sealed.New(inside, keys)
	write(t, store, first("s-1", "request", nil))
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	sealed.Refresh(keys)
	sealed.Refresh(keys)
	if _, err := store.Load(t.Context(), "s-1"); err != nil {
		t.Errorf("with an invalid file: %v, want the last keys to stay in use", err)
	}
	if got := strings.Count(log.String(), "invalid"); got != 1 {
		t.Errorf("the log warns %d times, want once: %s", got, log.String())
	}
	if err := os.WriteFile(path, valid, 0o600); err != nil {
		t.Fatal(err)
	}
	rotate(t, dir)
	sealed.Refresh(keys)
	write(t, store, first("s-2", "request", nil))
	without(t, path, idsIn(t, path)[0])
	later := sealed.New(inside, keysAt(t, dir))
	if _, err := later.Load(t.Context(), "s-1"); !errors.Is(err, journal.ErrKey) {
		t.Errorf("the first saga with the new key only: %v, want ErrKey", err)
	}
	if _, err := later.Load(t.Context(), "s-2"); err != nil {
		t.Errorf("the second saga with the new key only: %v, want it to be sealed with that", err)
	}
}
