package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/treatyhq/treaty/internal/npm"
)

// BuildNode installs the libraries of this repository's packages in TypeScript, unless they are installed, and compiles
// the one in a directory. It returns the path of node. Without node, the test is skipped, or fails if CI is "true".
func BuildNode(t *testing.T, dir string) (node string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node isn't installed: what is written in TypeScript can't be tested")
		}
		t.Skip("node isn't installed: what is written in TypeScript is NOT tested; set CI=true to make this a failure")
	}
	nodeLock.Lock()
	defer nodeLock.Unlock()
	absolute, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	built, found := nodeBuilt[absolute]
	if !found {
		built = buildNode(absolute)
		nodeBuilt[absolute] = built
	}
	if built != nil {
		t.Fatal(built)
	}
	return node
}

var (
	nodeLock  sync.Mutex
	nodeBuilt = make(map[string]error) // by directory
)

func buildNode(dir string) error {
	root := dir
	for {
		if _, err := os.Stat(filepath.Join(root, "package-lock.json")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			return fmt.Errorf("no directory above %s has a package-lock.json", dir)
		}
		root = parent
	}
	return npm.Build(context.Background(), root, dir)
}
