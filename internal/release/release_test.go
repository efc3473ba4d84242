package release

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	script = "tools/release.sh"

	// plugin is the folder of the program that is a module of its own.
	plugin = "cmd/buf-plugin-treaty"
)

// unreleased are the programs that only this repository runs.
var unreleased = map[string]string{
	"bench":         "measures this repository",
	"services/demo": "builds the company from its sources",
}

// TestReleasesEveryProgram checks that a program that is added to the repository is added to the release, too.
func TestReleasesEveryProgram(t *testing.T) {
	released := programs(t)
	found := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			switch entry.Name() {
			case "testdata", "node_modules", "bin", "tools", ".git", "internal":
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		if file.Name.Name == "main" {
			folder, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found[filepath.ToSlash(folder)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	folders := slices.Sorted(maps.Values(released))
	for _, folder := range slices.Sorted(maps.Keys(found)) {
		if unreleased[folder] == "" && !slices.Contains(folders, folder) {
			t.Errorf("%s isn't released: add it to %s, or say here why not", folder, script)
		}
	}
	for _, folder := range folders {
		if !found[folder] {
			t.Errorf("%s releases %s, which has no program", script, folder)
		}
	}
}

// TestRelease runs the script in repositories whose programs have the names of the real ones and do nothing else than
// print their version. The proof builds the real ones.
func TestRelease(t *testing.T) {
	first := newRepository(t, filepath.Join(t.TempDir(), "first"))
	git(t, first, "tag", "v1.2.3")
	git(t, first, "tag", plugin+"/v1.2.3")
	second := filepath.Join(t.TempDir(), "a", "folder", "with a longer name", "second")
	git(t, first, "worktree", "add", "--quiet", "--detach", second)

	if out, err := release(t, first); err != nil {
		t.Fatalf("%v\n%s", err, out)
	} else if !strings.Contains(out, "built v1.2.3 into bin/release") {
		t.Errorf("it printed\n%s\nwant the version v1.2.3", out)
	}
	sums := sumsOf(t, first)
	t.Run("programs", func(t *testing.T) {
		for name := range programs(t) {
			program := filepath.Join(first, "bin/release/linux_amd64", name)
			checkStatic(t, program)
			if !strings.Contains(sums, "  linux_amd64/"+name+"\n") {
				t.Errorf("SHA256SUMS doesn't name %s", name)
			}
		}
		for line := range strings.Lines(sums) {
			sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
			content := read(t, filepath.Join(first, "bin/release", file))
			if want := fmt.Sprintf("%x", sha256.Sum256([]byte(content))); sum != want {
				t.Errorf("the sum of %s is %s, want %s", file, sum, want)
			}
		}
	})
	t.Run("modules", func(t *testing.T) {
		modules := read(t, filepath.Join(first, "bin/release/MODULES.txt"))
		versions := regexp.MustCompile(`(?m)^linux_amd64/(\S+): go.*\n\tpath\t.*\n\tmod\t\S+\tv1\.2\.3\t$`)
		if named := len(versions.FindAllString(modules, -1)); named != len(programs(t)) {
			t.Errorf("MODULES.txt names %d programs of version v1.2.3, want %d:\n%s", named, len(programs(t)), modules)
		}
	})
	t.Run("reproducible", func(t *testing.T) {
		out, err := release(t, second, "GOFLAGS=-tags=netcgo", "TZ=Asia/Tokyo", "GOAMD64=v3",
			"CGO_ENABLED=1")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again := sumsOf(t, second); again != sums {
			t.Errorf("the same commit in another folder has other sums:\n%s\nwant\n%s", again, sums)
		}
	})
	t.Run("uncommitted", func(t *testing.T) {
		write(t, first, "cmd/treaty/more.go", "package main\n")
		out, err := release(t, first)
		if err == nil || !strings.Contains(out, "?? cmd/treaty/more.go") {
			t.Errorf("a file that is in no commit: got %v and\n%s\nwant an error that names it", err, out)
		}
		if sumsOf(t, first) != sums {
			t.Error("the release that was there is gone")
		}
	})
}

// checkStatic checks that a program for Linux needs no other file, not even to be loaded.
func checkStatic(t *testing.T, program string) {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = file.Close() }()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is linked dynamically: it has a segment %v", filepath.Base(program), segment.Type)
		}
	}
}

// newRepository returns a folder with a Git repository that holds the script and small programs.
func newRepository(t *testing.T, dir string) string {
	t.Helper()
	goMod := regexp.MustCompile(`(?m)^go \S+$`).FindString(read(t, filepath.Join(root, "go.mod")))
	write(t, dir, script, read(t, filepath.Join(root, script)))
	if err := os.Chmod(filepath.Join(dir, script), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, ".gitignore", "/bin/\n")
	write(t, dir, "deploy/Containerfile", "FROM scratch\n")
	write(t, dir, "go.mod", "module github.com/treatyhq/treaty\n\n"+goMod+"\n")
	write(t, dir, plugin+"/go.mod", "module github.com/treatyhq/treaty/"+plugin+"\n\n"+goMod+"\n")
	write(t, dir, plugin+"/go.work", goMod+"\n\nuse .\n")
	for _, folder := range programs(t) {
		// With cgo, a program that imports package net is linked dynamically.
		write(t, dir, folder+"/main.go", "package main\n\nimport _ \"net\"\n\nfunc main() {}\n")
	}
	git(t, dir, "init", "--quiet")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "--message", "programs")
	return dir
}

// programs returns the folder of each program that the script builds.
func programs(t *testing.T) map[string]string {
	t.Helper()
	_ = read(t, filepath.Join(root, script)) // go test doesn't reuse a result after the script was changed.
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, script), "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	folders := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, folder, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found {
			t.Fatalf("%s list printed the line %q, want a name and a folder", script, line)
		}
		folders[name] = folder
	}
	return folders
}

// release runs the script in a folder for one system, and returns what it printed.
func release(t *testing.T, dir string, environment ...string) (string, error) {
	t.Helper()
	return run(t.Context(), dir, append([]string{"TARGETS=linux/amd64"}, environment...), "./"+script)
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	identity := []string{
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@acme.example", "GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@acme.example", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
	}
	if out, err := run(t.Context(), dir, identity, "git", args...); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// run runs a program to its end, and returns what it printed.
func run(ctx context.Context, dir string, environment []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func sumsOf(t *testing.T, dir string) string {
	t.Helper()
	return read(t, filepath.Join(dir, "bin/release/SHA256SUMS"))
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t *testing.T, dir, file, content string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
