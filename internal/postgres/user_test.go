//go:build unix

package postgres

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Programs in a folder that another user can't enter are copied, with their links.
func TestProgramsOutOfReach(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), user{credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	programs := Programs{Dir: filepath.Join(dir, "private", "bin"), Major: Newest}
	script(t, filepath.Join(programs.Dir, "postgres"), "exit 0")
	if err := os.Symlink("postgres", filepath.Join(programs.Dir, "postmaster")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if same, err := (user{}).reach(programs, dir); err != nil || same != programs {
		t.Errorf("the owner got %v (error: %v)", same, err)
	}
	copied, err := other.reach(programs, filepath.Join(dir, "copy"))
	if err != nil || copied.Dir != filepath.Join(dir, "copy", "programs", "bin") {
		t.Fatalf("another user got %v (error: %v)", copied, err)
	}
	for _, name := range []string{"postgres", "postmaster"} {
		info, err := os.Stat(filepath.Join(copied.Dir, name))
		if err != nil || info.Mode().Perm()&0o100 == 0 {
			t.Errorf("%s can't be run: %v (error: %v)", name, info, err)
		}
	}
}
