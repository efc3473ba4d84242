//go:build proof

package release

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestReleaseIsReproducible builds the real programs of the commit that is checked out for this system and for another
// one, in two folders. The second build begins with an empty cache, so it takes minutes.
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
	for i, folder := range folders {
		environment := []string{targets}
		if i == 1 {
			environment = append(environment, "GOCACHE="+t.TempDir())
		}
		printed, err := run(t.Context(), folder, environment, "./"+script)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		t.Log(strings.TrimSpace(printed))
		sums = append(sums, sumsOf(t, folder))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds of one commit differ:\n%s\nand\n%s", sums[0], sums[1])
	}
}
