package houserules

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dependenciesPage = "docs/adr/007-dependencies.md"

var (
	requirement = regexp.MustCompile(`(?m)^(?:require )?\s*([^\s/]+\.[^\s]+) v\S+`)
	toolLine    = regexp.MustCompile(`(?m)^(?:tool )?\t?([^\s/]+\.[^\s]+)$`)
	tableLine   = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")
)

// Every module that the source imports or go.mod names as a tool has a line on the page, and every line such a module.
// It doesn't rely on the "// indirect" marks of go.mod.
func TestEveryDependencyHasItsReason(t *testing.T) {
	mod := read(t, "go.mod")
	var modules []string
	for _, match := range requirement.FindAllStringSubmatch(mod, -1) {
		modules = append(modules, match[1])
	}
	if len(modules) == 0 {
		t.Fatal("found no requirements in go.mod")
	}

	used := make(map[string]string)
	for _, p := range readModule(t) {
		for _, imported := range slices.Concat(p.imports, p.testImports) {
			if module := moduleOf(modules, imported); module != "" {
				used[module] = p.dir
			}
		}
	}
	for _, match := range toolLine.FindAllStringSubmatch(mod, -1) {
		if module := moduleOf(modules, match[1]); module != "" {
			used[module] = "go.mod, as a tool"
		}
	}

	reasons := make(map[string]string)
	for _, match := range tableLine.FindAllStringSubmatch(read(t, dependenciesPage), -1) {
		reasons[match[1]] = match[2]
	}
	for _, module := range slices.Sorted(maps.Keys(used)) {
		if reasons[module] == "" {
			t.Errorf("%s, used by %s, has no reason: add a line to %s", module, used[module], dependenciesPage)
		}
	}
	for _, module := range slices.Sorted(maps.Keys(reasons)) {
		if used[module] == "" {
			t.Errorf("%s isn't used any more: take its line out of %s", module, dependenciesPage)
		}
	}
}

// moduleOf returns the module that an imported package is in: the longest path that fits; empty when it is in none.
func moduleOf(modules []string, imported string) string {
	var found string
	for _, module := range modules {
		if (imported == module || strings.HasPrefix(imported, module+"/")) && len(module) > len(found) {
			found = module
		}
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
