package houserules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// public are the packages that users import.
var public = []string{
	"client", "orchestrator", "orchestrator/contract", "orchestrator/saga", "orchestrator/saga/sagavet",
	"participant", "participant/inbox", "participant/participanttest",
}

// A user can't name the types of internal packages. So no exported declaration of a public package uses one, and no
// documentation points to one.
func TestPublicAPINamesNoInternalPackage(t *testing.T) {
	packages := readModule(t)
	for _, dir := range public {
		p := packages[dir]
		if p == nil {
			t.Errorf("no package %s: correct the rule", dir)
			continue
		}
		for _, name := range p.code {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, violation := range internalNames(files, file) {
				t.Error(violation)
			}
		}
	}
}

// internalNames returns the places in a file's exported declarations and their documentation that name an internal
// package.
func internalNames(files *token.FileSet, file *ast.File) []string {
	internal := internalImports(file)
	var found []string
	report := func(pos token.Pos, what string) {
		found = append(found, files.Position(pos).String()+": "+what+", which users can't import")
	}
	inDoc := func(doc *ast.CommentGroup) {
		for _, name := range internal {
			if doc != nil && regexp.MustCompile(`\b`+name+`\.[A-Z]`).MatchString(doc.Text()) {
				report(doc.Pos(), "documentation points into package "+name)
			}
		}
	}
	var inType func(node ast.Node)
	inType = func(node ast.Node) {
		ast.Inspect(node, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.SelectorExpr:
				if left, ok := node.X.(*ast.Ident); ok && slices.Contains(internal, left.Name) {
					report(node.Pos(), "an exported declaration uses "+left.Name+"."+node.Sel.Name)
				}
			case *ast.StructType, *ast.InterfaceType:
				for _, field := range members(node) {
					if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
						inDoc(field.Doc)
						inType(field.Type)
					}
				}
				return false
			}
			return true
		})
	}
	inDoc(file.Doc)
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if !d.Name.IsExported() || d.Recv != nil && !exportedReceiver(d.Recv) {
				continue
			}
			inDoc(d.Doc)
			inType(d.Type.Params)
			if d.Type.Results != nil {
				inType(d.Type.Results)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						inDoc(d.Doc)
						inDoc(spec.Doc)
						inType(spec.Type)
					}
				case *ast.ValueSpec:
					if slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
						inDoc(d.Doc)
						inDoc(spec.Doc)
						if spec.Type != nil {
							inType(spec.Type)
						}
					}
				}
			}
		}
	}
	return found
}

// members returns the fields of a struct type, or the methods of an interface type.
func members(typ ast.Node) []*ast.Field {
	if t, is := typ.(*ast.StructType); is {
		return t.Fields.List
	}
	return typ.(*ast.InterfaceType).Methods.List
}

// internalImports returns the names under which a file imports internal packages of the module.
func internalImports(file *ast.File) []string {
	var names []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !strings.HasPrefix(imported, modulePath+"/") || !strings.Contains(imported, "/internal/") {
			continue
		}
		if spec.Name != nil {
			names = append(names, spec.Name.Name)
		} else {
			names = append(names, path.Base(imported))
		}
	}
	return names
}

// exportedReceiver returns whether a method's receiver is of an exported type.
func exportedReceiver(receiver *ast.FieldList) bool {
	typ := receiver.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}

func TestInternalNamesAreFound(t *testing.T) {
	const imports = `import "github.com/treatyhq/treaty/orchestrator/internal/machine"; `
	scenarios := []struct {
		name, source string
		want         int
	}{
		{"nothing exported", `type x struct{ Code machine.Code }; func f(machine.Code) {}; var y machine.Code`, 0},
		{"a field", `type X struct{ Code machine.Code }`, 1},
		{"an unexported field", `type X struct{ code machine.Code }`, 0},
		{"a parameter and a result", `func F(a *machine.Code) []machine.Code { return nil }`, 2},
		{"a method of an interface", `type X interface{ F(machine.Code) }`, 1},
		{"a method of an unexported type", `type x int; func (x) F(machine.Code) {}`, 0},
		{"an unexported method of an interface", `type X interface{ f(machine.Code) }`, 0},
		{"an alias", `type X = machine.Code`, 1},
		{"a value", `var ErrX = machine.ErrX`, 0},
		{"a variable's type", `var X machine.Code`, 1},
		{"a function's body", `func F() { machine.New() }`, 0},
		{"documentation", "// F returns machine.ErrX.\nfunc F() error { return nil }", 1},
		{"documentation of something unexported", "// f returns machine.ErrX.\nfunc f() error { return nil }", 0},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			files := token.NewFileSet()
			source := "package x; " + imports + "\n" + s.source
			file, err := parser.ParseFile(files, "x.go", source, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if found := internalNames(files, file); len(found) != s.want {
				t.Errorf("found %q, want %d", found, s.want)
			}
		})
	}
}
