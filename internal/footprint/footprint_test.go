package footprint

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	modulePath = "github.com/treatyhq/treaty"
	root       = "../.."
)

// A limit is the number of modules that a program may have, apart from its own, if it imports some of Treaty's
// packages. The numbers may only fall. If a change exceeds a limit, find another solution; if it needs fewer modules,
// lower the limit in the same change.
type limit struct {
	name    string
	imports []string

	// graph limits the module graph, which "go list -m all" prints: every module that can decide a version. It rose
	// once, by four, when pgx came: see docs/adr/007-dependencies.md.
	graph int

	// compiled limits the modules of the packages that are compiled into the program. That of the orchestrator rose
	// once, by five, when it learned to share a PostgreSQL database.
	compiled int
}

var limits = []limit{
	{name: "client", imports: []string{"client"}, graph: 84, compiled: 7},
	{name: "participant", imports: []string{"participant"}, graph: 90, compiled: 16},
	{name: "inbox", imports: []string{"participant/inbox"}, graph: 90, compiled: 16},
	{name: "orchestrator", imports: []string{"orchestrator", "orchestrator/saga"}, graph: 150, compiled: 56},
}

func TestModulesThatUsersInherit(t *testing.T) {
	watchSource(t)
	for _, l := range limits {
		t.Run(l.name, func(t *testing.T) {
			program := newProgram(t, l.imports)

			compiled, err := program.list("-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")
			if err != nil {
				t.Fatal(err)
			}
			hold(t, "compiled modules", l.compiled, compiled)

			// The list above has added what is compiled to the program's go.mod. The whole graph needs the go.mod files
			// of some modules that this repository itself never loads. The first run downloads them.
			graph, err := program.list("-m", "-f", "{{.Path}}", "all")
			if err != nil {
				t.Fatalf("reading the module graph, which needs a module proxy once: %v", err)
			}
			hold(t, "modules in the graph", l.graph, graph)
		})
	}
}

// hold fails the test if there are more modules than the limit.
func hold(t *testing.T, what string, limit int, modules []string) {
	t.Helper()
	t.Logf("%d %s, of %d", len(modules), what, limit)
	if len(modules) > limit {
		t.Errorf("%d %s, at most %d are allowed:\n%s", len(modules), what, limit, strings.Join(modules, "\n"))
	}
}

// A program is the module of a user that imports this repository's packages from the checkout.
type program struct {
	dir string
}

const programPath = "example.com/program"

var goVersion = regexp.MustCompile(`(?m)^go (\S+)$`)

func newProgram(t *testing.T, imports []string) program {
	t.Helper()
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	version := goVersion.FindStringSubmatch(read(t, "go.mod"))
	if version == nil {
		t.Fatal("go.mod names no version of Go")
	}
	p := program{dir: t.TempDir()}
	p.write(t, "go.mod", fmt.Sprintf("module %s\n\ngo %s\n\nrequire %s v0.0.0\n\nreplace %s => %q\n",
		programPath, version[1], modulePath, modulePath, checkout))
	p.write(t, "go.sum", read(t, "go.sum"))
	var source strings.Builder
	fmt.Fprintln(&source, "package main")
	for _, imported := range imports {
		fmt.Fprintf(&source, "import _ %q\n", modulePath+"/"+imported)
	}
	fmt.Fprintln(&source, "func main() {}")
	p.write(t, "main.go", source.String())
	return p
}

// list runs go list in the program's module, and returns what it prints, sorted, without duplicates and without the
// program itself. It lets go add requirements to the program's go.mod, as "go mod tidy" does, but without the tests of
// dependencies, which would have to be downloaded.
func (p program) list(args ...string) ([]string, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s in %s: %w: %s", cmd, p.dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	modules := strings.Fields(string(stdout))
	slices.Sort(modules)
	return slices.DeleteFunc(slices.Compact(modules), func(module string) bool { return module == programPath }), nil
}

func (p program) write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watchSource reads the repository's directories in this process, so that go test doesn't reuse a result after a file
// was added or changed: it doesn't see what go list reads.
func watchSource(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"client", "gen", "internal", "orchestrator", "participant"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
