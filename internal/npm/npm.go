// Package npm builds this repository's packages in TypeScript, one process at a time: npm ci deletes what another one
// is installing, and tests of several Go packages run at the same time.
package npm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/treatyhq/treaty/internal/filelock"
)

// Build installs the libraries of the packages in a directory, unless they are installed, and builds the package in
// dir. libraries is the directory of package-lock.json. Other processes that build there wait. The error has what npm
// has printed.
func Build(ctx context.Context, libraries, dir string) error {
	lock := filepath.Join(libraries, "package-lock.json")
	if _, err := os.Stat(lock); err != nil {
		return fmt.Errorf("building %s: %w", dir, err)
	}
	return filelock.Hold(lock, func() error {
		if !installed(libraries) {
			if err := run(ctx, libraries, "ci", "--no-audit", "--no-fund"); err != nil {
				return err
			}
		}
		return run(ctx, dir, "run", "--silent", "build")
	})
}

// installed reports whether the libraries that package-lock.json names are installed in a directory. npm writes the
// hidden file when it has installed them.
func installed(dir string) bool {
	done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	wanted, wantedErr := os.Stat(filepath.Join(dir, "package-lock.json"))
	return err == nil && wantedErr == nil && !done.ModTime().Before(wanted.ModTime())
}

func run(ctx context.Context, dir string, arguments ...string) error {
	command := exec.CommandContext(ctx, "npm", arguments...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("npm %v in %s: %w\n%s", arguments, dir, err, output)
	}
	return nil
}
