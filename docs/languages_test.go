package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const languagesPage = "participants-in-other-languages.md"

// TestEveryKeyIsDescribed compares the keys in package wire with those in the tables of the page for other languages:
// each key of the metadata has one row, or is the one that no participant sees.
func TestEveryKeyIsDescribed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "internal", "wire", "metadata.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasSuffix(spec.Names[0].Name, "Key") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if value != "treaty-request-id" { // for clients that start sagas
			keys = append(keys, value)
		}
		return true
	})
	page, err := os.ReadFile(languagesPage)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(treaty-[a-z-]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, row[1])
	}
	slices.Sort(keys)
	slices.Sort(rows)
	if len(keys) == 0 || !slices.Equal(keys, rows) {
		t.Errorf("%s has rows for the keys\n%q\nbut package wire has\n%q", languagesPage, rows, keys)
	}
	for _, key := range []string{"treaty-command-id", "treaty-direction"} {
		row := regexp.MustCompile("(?m)^\\| `" + key + "` \\|[^|]*\\| yes \\|")
		if !row.Match(page) {
			t.Errorf("%s doesn't say that %s is mandatory", languagesPage, key)
		}
	}
}

// TestExamplesInOtherLanguagesAreWhole checks that the page shows the participants as they are in docs/examples, from
// the first line to the last.
func TestExamplesInOtherLanguagesAreWhole(t *testing.T) {
	page, err := os.ReadFile(languagesPage)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, pattern := range []string{"*/*.ts", "*/*.py", "*/package.json"} {
		files, err := filepath.Glob(filepath.Join("examples", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			shown++
			block := regexp.MustCompile("(?s)<!-- file: docs/" + regexp.QuoteMeta(file) + " -->\n```[a-z]+\n(.*?)```\n")
			match := block.FindSubmatch(page)
			if match == nil || string(match[1]) != string(source) {
				t.Errorf("%s doesn't show %s as it is", languagesPage, file)
			}
		}
	}
	if shown == 0 {
		t.Error("there are no examples; check the patterns")
	}
}
