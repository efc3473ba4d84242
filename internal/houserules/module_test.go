package houserules

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	modulePath = "github.com/treatyhq/treaty"
	root       = "../.."
)

// source is one Go package directory of the module, whatever build tags its files have.
type source struct {
	// dir is the path from the module's root, with slashes; "." for the root.
	dir string

	// code and tests are the files, as paths from this package's directory.
	code, tests []string

	// imports are what the code files import, testImports what the test files import, each sorted and once. Paths
	// inside the module are written from its root: "orchestrator/internal/machine".
	imports, testImports []string
}

// readModule reads the imports of all packages of the module, by directory. It opens the files itself, so go test
// doesn't reuse a cached result when any of them has changed.
func readModule(t *testing.T) map[string]*source {
	t.Helper()
	packages := make(map[string]*source)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return enter(file, entry.Name())
		case !strings.HasSuffix(file, ".go"):
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if packages[dir] == nil {
			packages[dir] = &source{dir: dir}
		}
		return packages[dir].add(file)
	})
	if err != nil {
		t.Fatalf("read the module's source: %v", err)
	}
	for _, p := range packages {
		slices.Sort(p.imports)
		slices.Sort(p.testImports)
		p.imports, p.testImports = slices.Compact(p.imports), slices.Compact(p.testImports)
	}
	return packages
}

// enter decides whether a directory belongs to the module.
func enter(dir, name string) error {
	if dir == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (s *source) add(file string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	var imports []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		imports = append(imports, strings.TrimPrefix(imported, modulePath+"/"))
	}
	if strings.HasSuffix(file, "_test.go") {
		s.tests = append(s.tests, file)
		s.testImports = append(s.testImports, imports...)
		return nil
	}
	s.code = append(s.code, file)
	s.imports = append(s.imports, imports...)
	return nil
}

// matches says whether an import path or directory fits a pattern: "a/b" is that package alone, "a/b/..." also
// everything below, and "a/*" everything right below; "std" is the standard library.
func matches(pattern, name string) bool {
	if pattern == "std" {
		first, _, _ := strings.Cut(name, "/")
		return !strings.Contains(first, ".") && !inModule(name)
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == tree || strings.HasPrefix(name, tree+"/")
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
}

// inModule says whether an import, as source writes it, is one of the module's own top directories.
func inModule(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return slices.Contains([]string{"bench", "cmd", "gen", "internal", "orchestrator", "participant", "proof",
		"services"}, first)
}
