package npm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestOneAtATime builds a package many times at the same time. Its build fails if it finds another one under way.
func TestOneAtATime(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm isn't installed")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"package.json": `{"name": "x", "version": "1.0.0", "scripts": {
			"build": "mkdir busy && echo x >> built && rmdir busy"}}`,
		"package-lock.json": `{"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {
			"": {"name": "x", "version": "1.0.0"}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const builds = 4
	var all sync.WaitGroup
	for range builds {
		all.Go(func() {
			if err := Build(context.Background(), dir, dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	built, err := os.ReadFile(filepath.Join(dir, "built"))
	if err != nil || len(built) != builds*len("x\n") {
		t.Errorf("built %q, %v", built, err)
	}
}

// TestBrokenBuild shows what npm says.
func TestBrokenBuild(t *testing.T) {
	if err := Build(t.Context(), t.TempDir(), "."); err == nil {
		t.Error("a directory without package-lock.json was built")
	}
}
