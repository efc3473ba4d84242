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
	requirement = regexp.MustCompile(`(?m)^(?:require )?\s*([^\s/]+\.[^\s]+) (v\S+)`)
	toolLine    = regexp.MustCompile(`(?m)^(?:tool )?\t?([^\s/]+\.[^\s]+)$`)
	tableLine   = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")

	// preRelease matches a version before a release, such as v1.2.3-rc.1 or the pseudo-version
	// v1.2.4-0.20260102030405-abc. It doesn't match v0.0.0-20260102030405-abc, the version of a module that has no
	// release.
	preRelease = regexp.MustCompile(`^v\d+\.\d+\.\d+-(?:0\.|[a-z])`)
)

// Every module that the source imports or that a module in tools runs has a line on the page, and every line has such a
// module. The test doesn't rely on the "// indirect" marks of go.mod.
func TestEveryDependencyHasItsReason(t *testing.T) {
	modules := requirements(t, "go.mod")
	used := make(map[string]string)
	for _, p := range readModule(t) {
		for _, imported := range slices.Concat(p.imports, p.testImports) {
			if module := moduleOf(modules, imported); module != "" {
				used[module] = p.dir
			}
		}
	}
	for _, file := range toolModules(t) {
		modules := requirements(t, file)
		tools := toolLine.FindAllStringSubmatch(read(t, file), -1)
		if len(tools) == 0 {
			t.Errorf("%s names no tool", file)
		}
		for _, match := range tools {
			if module := moduleOf(modules, match[1]); module != "" {
				used[module] = file
			}
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
			t.Errorf("nothing uses %s: delete its line in %s", module, dependenciesPage)
		}
	}
}

// Users inherit every requirement of go.mod, so it has no tools and no pre-releases.
func TestUsersInheritNoToolsAndNoPreReleases(t *testing.T) {
	mod := read(t, "go.mod")
	for _, match := range toolLine.FindAllStringSubmatch(mod, -1) {
		t.Errorf("go.mod names the tool %s: move it to a module in tools", match[1])
	}
	for _, match := range requirement.FindAllStringSubmatch(mod, -1) {
		if preRelease.MatchString(match[2]) {
			t.Errorf("go.mod requires %s %s, which isn't a release", match[1], match[2])
		}
	}
}

func TestPreReleasesAreFound(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.36.12":                                false,
		"v2.0.0+incompatible":                     false,
		"v0.0.0-20261026165753-2ffab32bce7e":      false,
		"v1.36.13-0.20261016172727-e9ee2a76ab8e":  true,
		"v1.2.3-rc.1":                             true,
		"v1.2.3-rc.1.0.20261016172727-e9ee2a76ab": true,
	} {
		if got := preRelease.MatchString(version); got != want {
			t.Errorf("is %s a pre-release? got %t, want %t", version, got, want)
		}
	}
}

// requirements returns the modules that a go.mod requires, directly or not.
func requirements(t *testing.T, file string) []string {
	t.Helper()
	var modules []string
	for _, match := range requirement.FindAllStringSubmatch(read(t, file), -1) {
		modules = append(modules, match[1])
	}
	if len(modules) == 0 {
		t.Fatalf("found no requirements in %s", file)
	}
	return modules
}

// toolModules returns the go.mod files of the modules in tools, as paths from the root.
func toolModules(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "tools", "*", "go.mod"))
	if err != nil || len(found) == 0 {
		t.Fatalf("found no modules in tools (error: %v)", err)
	}
	for i, file := range found {
		if found[i], err = filepath.Rel(root, file); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// moduleOf returns the module that holds an imported package, the one with the longest matching path. It returns an
// empty string if none does.
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
