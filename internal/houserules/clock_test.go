package houserules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// clock are the parts of package time that look at a clock, wait for one, or depend on the machine's time zone.
var clock = map[string]bool{
	"After": true, "AfterFunc": true, "LoadLocation": true, "Local": true, "NewTicker": true, "NewTimer": true,
	"Now": true, "Since": true,
	"Sleep": true, "Tick": true, "Ticker": true, "Timer": true, "Until": true,
}

// The machine knows times only as values that it is given, and runs nothing in parallel.
func TestMachineHasNoClock(t *testing.T) {
	for _, dir := range []string{"orchestrator/internal/machine"} {
		p := readModule(t)[dir]
		if p == nil {
			t.Fatalf("no package %s: correct the rule", dir)
		}
		for _, name := range p.code {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, violation := range impurities(files, file) {
				t.Error(violation)
			}
		}
	}
}

// impurities returns where a file looks at the clock or starts a goroutine.
func impurities(files *token.FileSet, file *ast.File) []string {
	clockName := "time"
	var found []string
	for _, spec := range file.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err != nil || imported != "time" || spec.Name == nil {
			continue
		}
		if clockName = spec.Name.Name; clockName == "." {
			found = append(found, fmt.Sprintf("%s: import time by its name, so that its uses can be found",
				files.Position(spec.Pos())))
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			found = append(found, fmt.Sprintf(
				"%s: the machine starts no goroutine; a coroutine (iter.Pull) keeps a run reproducible",
				files.Position(node.Pos())))
		case *ast.SelectorExpr:
			if left, ok := node.X.(*ast.Ident); ok && left.Name == clockName && clock[node.Sel.Name] {
				found = append(found, fmt.Sprintf("%s: the machine doesn't use time.%s; take the time from the input",
					files.Position(node.Pos()), node.Sel.Name))
			}
		}
		return true
	})
	return found
}

func TestImpuritiesAreFound(t *testing.T) {
	scenarios := []struct {
		name, source string
		want         int
	}{
		{"values",
			`import "time"; var x = time.Second; func f(t time.Time) bool { return t.After(t) && t == t.Local() }`, 0},
		{"now", `import "time"; var x = time.Now()`, 1},
		{"now as a value", `import "time"; var x = time.Now`, 1},
		{"under another name", `import t "time"; var x = t.Since(t.Time{})`, 1},
		{"without a name", `import . "time"; var x = Now()`, 1},
		{"goroutine", `func f() { go f() }`, 1},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, "x.go", "package x; "+s.source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if found := impurities(files, file); len(found) != s.want {
				t.Errorf("found %q, want %d", found, s.want)
			}
		})
	}
}
