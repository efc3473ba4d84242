package company

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/treatyhq/treaty/internal/npm"
)

// oldestNode is the oldest major version of Node that the notification service runs on.
const oldestNode = 20

// buildTime is how long the installation of its libraries and the compilation may take, with all builds before it.
const buildTime = 3 * time.Minute

// notification is how to run the notification service.
type notification struct {
	command []string // the program and its first arguments
	about   string   // which implementation it is, and why
}

// findNotification returns the service in TypeScript if Node can run it, and otherwise its twin in Go.
func findNotification(ctx context.Context, binaries string) (notification, error) {
	command, about, err := BuildTypeScript(ctx, "")
	if err == nil {
		return notification{command: command, about: about}, nil
	}
	if ctx.Err() != nil {
		return notification{}, ctx.Err()
	}
	return notification{command: []string{Binary(binaries, "notification")}, about: "its twin in Go, because " +
		err.Error()}, nil
}

// BuildTypeScript compiles the notification service in TypeScript, with the sources in a directory that contains this
// module, which may be an earlier version of it. Without a directory it takes this module's own. It installs the
// service's libraries unless that was done before. It returns the command that runs the service, and what it is. The
// error says why the service can't run here.
func BuildTypeScript(ctx context.Context, root string) (command []string, about string, err error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, "", errors.New("node isn't installed")
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	version := strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
	major, _, _ := strings.Cut(version, ".")
	if n, atoiErr := strconv.Atoi(major); err != nil || atoiErr != nil || n < oldestNode {
		return nil, "", fmt.Errorf("node %s is older than %d", version, oldestNode)
	}
	if root == "" {
		if root, err = moduleRoot(ctx); err != nil {
			return nil, "", err
		}
	}
	dir := filepath.Join(root, "services", "notification")
	// The libraries belong to all packages in TypeScript, or in earlier versions to this service alone.
	libraries := root
	if _, err := os.Stat(filepath.Join(dir, "package-lock.json")); err == nil {
		libraries = dir
	}
	build, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	if err := npm.Build(build, libraries, dir); err != nil {
		return nil, "", errors.New("npm can't build it here")
	}
	return []string{node, filepath.Join(dir, "dist", "main.js")}, "TypeScript on Node " + version, nil
}
