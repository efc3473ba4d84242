package scaffold

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root = "../../../.."

	// commit is the version of a commit that has no version of its own.
	commit = "v0.0.0-20261130051102-987915fabcde"
)

// TestWrite writes a project into folders that are new, empty, or in a module.
func TestWrite(t *testing.T) {
	for _, test := range []struct {
		name    string
		before  map[string]string // files, below the folder above the project
		dir     string
		params  Params
		module  string
		require []string
	}{
		{"new folder", nil, "shop", Params{Version: "v0.3.0"}, "example.com/shop", nil},
		{"a name", nil, "My Shop", Params{Module: "acme.example/shop", Version: "v0.3.0"}, "acme.example/shop", nil},
		{
			"own module", map[string]string{"shop/go.mod": "module acme.example/a\n", "shop/LICENSE": ""}, "shop",
			Params{Version: "v0.3.0"}, "acme.example/a", []string{"go get github.com/treatyhq/treaty@v0.3.0"},
		},
		{
			"in a module", map[string]string{"go.mod": "module acme.example/a\n", "main.go": "package main"}, "x/shop",
			Params{Version: "devel"}, "acme.example/a/x/shop", []string{"go get github.com/treatyhq/treaty@latest"},
		},
		{"a published commit", nil, "shop", Params{Version: commit}, "example.com/shop", nil},
		{
			"checkout", nil, "shop", Params{Version: "devel", Replace: root}, "example.com/shop", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			above := t.TempDir()
			writeFiles(t, above, test.before)
			dir := filepath.Join(above, filepath.FromSlash(test.dir))
			test.params.Dir = dir
			project, err := Write(t.Context(), test.params)
			if err != nil {
				t.Fatal(err)
			}
			if project.Module != test.module || !slices.Equal(project.Require, test.require) {
				t.Errorf("wrote %s with %q, want %s with %q", project.Module, project.Require, test.module,
					test.require)
			}
			for _, name := range project.Files {
				data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
				if err != nil {
					t.Error(err)
				}
				if strings.Contains(string(data), placeholder) && test.module != placeholder {
					t.Errorf("%s still names %s", name, placeholder)
				}
				if strings.HasSuffix(name, ".tmpl") {
					t.Errorf("%s is a template", name)
				}
			}
			if made := slices.Contains(project.Files, "go.mod"); made == (test.require != nil) {
				t.Errorf("a go.mod was written: %v", made)
			}
			for name, want := range test.before {
				got, err := os.ReadFile(filepath.Join(above, filepath.FromSlash(name)))
				if err != nil || string(got) != want {
					t.Errorf("%s was changed to %q, %v", name, got, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".treaty-init-*")); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestWriteNothing gives folders and parameters that don't fit. Nothing is written then.
func TestWriteNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		before map[string]string
		params Params
		path   string // of the go command; empty for that of the test
		want   string
	}{
		{
			"not empty", map[string]string{"shop/main.go": "", "shop/a/b": ""}, Params{Version: "v0.3.0"}, "",
			"isn't empty: it has a, main.go",
		},
		{"a file", map[string]string{"shop": ""}, Params{Version: "v0.3.0"}, "", "shop is a file"},
		{
			"no module line", map[string]string{"go.mod": "go 1.26\n"}, Params{Version: "v0.3.0"}, "",
			"go.mod doesn't name its module",
		},
		{"a damaged go.mod", map[string]string{"go.mod": "modul x\n"}, Params{Version: "v0.3.0"}, "", "go.mod"},
		{
			"a bad name", nil, Params{Module: "acme.example/my shop", Version: "v0.3.0"}, "",
			`"acme.example/my shop" is no path`,
		},
		{
			"two names", map[string]string{"go.mod": "module acme.example/a\n"},
			Params{Module: "acme.example/b", Version: "v0.3.0"}, "", "its path is acme.example/a/shop",
		},
		{"no release", nil, Params{Version: "devel"}, "", "built from source (devel)"},
		{"a dirty build", nil, Params{Version: "v0.0.0-20261130051102-987915fabcde+dirty"}, "", "built from source"},
		{
			"a commit of a checkout", nil, Params{Version: commit, Revision: "987915fabcde0123"}, "",
			"built from source (" + commit + ")",
		},
		{
			"a go.mod for a newer Go", map[string]string{"go.mod": "module acme.example/a\n\ngo 1.99\n"},
			Params{Version: "v0.3.0"}, "", "go.mod needs go1.99, but Go is go1.",
		},
		{"no checkout", nil, Params{Replace: "."}, "", "--replace . is no checkout of Treaty"},
		{"no Go", nil, Params{Version: "v0.3.0"}, "none", "the go command isn't there"},
		{
			"an old Go", nil, Params{Version: "v0.3.0"}, "old",
			"Go is too old: it is go1.21.3, and the project needs go1.",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOTOOLCHAIN", "local")
			above := t.TempDir()
			writeFiles(t, above, test.before)
			if test.path != "" {
				t.Setenv("PATH", filepath.Join(t.TempDir(), test.path))
			}
			if test.path == "old" {
				bin := os.Getenv("PATH")
				writeFiles(t, bin, map[string]string{"go": "#!/bin/sh\necho go1.21.3\necho /dev/null\n"})
				if err := os.Chmod(filepath.Join(bin, "go"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			before := list(t, above)
			test.params.Dir = filepath.Join(above, "shop")
			_, err := Write(t.Context(), test.params)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if wrong, ok := errors.AsType[*Error](err); ok && len(wrong.Hints) == 0 {
				t.Errorf("%v says nothing about what to do", err)
			}
			if after := list(t, above); !slices.Equal(before, after) {
				t.Errorf("left behind: %q, after %q", after, before)
			}
		})
	}
}

// TestWriteFailsInTheMiddle can't write one of the files. None is left.
func TestWriteFailsInTheMiddle(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "a", "shop")
	files := map[string][]byte{"x/one": nil, "two": nil, "x": nil} // x is a folder and a file
	if err := writeAll(dir, files); err == nil {
		t.Fatal("a file took the place of a folder")
	}
	if got := list(t, above); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestToolsAreThose compares the project's tools with those of this repository.
func TestToolsAreThose(t *testing.T) {
	for _, name := range []string{"go.mod", "go.sum"} {
		want, err := os.ReadFile(filepath.Join(root, "tools", "buf", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := template.ReadFile("template/tools/" + name + ".tmpl")
		if err != nil {
			t.Fatal(err)
		}
		first := regexp.MustCompile(`^module .*`)
		if first.ReplaceAllString(string(got), "") != first.ReplaceAllString(string(want), "") {
			t.Errorf("template/tools/%s.tmpl differs from tools/buf/%s: copy that, with its own first line", name, name)
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "\ngo "+MinGo+"\n") {
		t.Errorf("MinGo is %s, but go.mod needs another version", MinGo)
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// list returns the paths of all files and folders below a folder.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}
