//go:build proof

package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestReleaseIsReproducible builds the real programs of the commit that is checked out for this system and for another
// one, in two folders. The second build finds no compiled package of the first. It takes minutes.
func TestReleaseIsReproducible(t *testing.T) {
	folders := []string{
		filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "a folder", "with a longer name", "second"),
	}
	for _, folder := range folders {
		out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", root, folder).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	targets := "TARGETS=" + runtime.GOOS + "/" + runtime.GOARCH + " darwin/arm64"
	var sums []string
	for _, folder := range folders {
		cache := filepath.Join(t.TempDir(), "cache")
		printed, err := run(t.Context(), folder, []string{targets, "GOCACHE=" + cache}, "./"+script)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		if err := os.RemoveAll(cache); err != nil {
			t.Error(err)
		}
		t.Log(strings.TrimSpace(printed))
		sums = append(sums, sumsOf(t, folder))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds of one commit differ:\n%s\nand\n%s", sums[0], sums[1])
	}
}
