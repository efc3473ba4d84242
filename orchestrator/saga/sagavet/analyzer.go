package sagavet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

const (
	// sagaPackage is the package that saga code imports.
	sagaPackage = "github.com/treatyhq/treaty/orchestrator/saga"

	// orchestratorPackages is where the packages are that use package saga and are no saga code.
	orchestratorPackages = "github.com/treatyhq/treaty/orchestrator"

	// page is where the checks are explained.
	page = "https://github.com/treatyhq/treaty/blob/main/docs/saga-language.md#the-analyzer"
)

// Analyzer finds mistakes in saga code. The package comment lists its checks. It is safe for concurrent use, as the
// drivers of package analysis require.
var Analyzer = &analysis.Analyzer{
	Name: "sagavet",
	Doc: "find mistakes in the code of sagas\n\n" +
		"Saga code runs again from its beginning after a restart, and must do the same each time. The analyzer finds " +
		"code that can't, and commands that are used in a wrong way.",
	URL:       page,
	Run:       run,
	FactTypes: []analysis.Fact{new(contracts), new(about)},
}

func run(pass *analysis.Pass) (any, error) {
	path := strings.TrimSuffix(pass.Pkg.Path(), "_test")
	readContracts(pass)
	if path == sagaPackage || !usesSaga(pass.Pkg) && !inMainModule(pass) {
		return nil, nil
	}
	p := newCode(pass)
	p.exportFacts()
	if isOrchestrator(path) {
		return nil, nil
	}
	p.reportAllowWithoutReason()
	for _, one := range p.sagaCode() {
		p.check(one)
	}
	slices.SortStableFunc(p.found, func(a, b analysis.Diagnostic) int { return int(a.Pos - b.Pos) })
	for _, one := range p.found {
		p.Report(one)
	}
	return nil, nil
}

// isOrchestrator reports whether a package is a part of the orchestrator. What it does with a Context isn't saga code.
// The analyzer's own test data are.
func isOrchestrator(path string) bool {
	return (path == orchestratorPackages || strings.HasPrefix(path, orchestratorPackages+"/")) &&
		!strings.Contains(path, "/testdata/")
}

// usesSaga reports whether a package imports package saga.
func usesSaga(of *types.Package) bool {
	for _, imported := range of.Imports() {
		if imported.Path() == sagaPackage {
			return true
		}
	}
	return false
}

// inMainModule reports whether a package belongs to the module that is analyzed, and not to one that it requires. Only
// its functions are followed: others are assumed to do what their documentation says.
func inMainModule(pass *analysis.Pass) bool {
	return pass.Module != nil && pass.Module.Path != "" && pass.Module.Version == ""
}

// code is the code of a package.
type code struct {
	*analysis.Pass

	bodies  map[*types.Func]*body
	vars    map[*types.Var]*variable
	entries map[*types.Func]*about // the methods that implement sagas
	// generatedFiles are the names of files that a program has written.
	generatedFiles map[string]bool
	allowed        map[string]map[int]bool
	found          []analysis.Diagnostic
	seen           map[finding]bool
	orders         map[*types.Func]*summary
}

// body is a piece of code: that of a function, of a function literal, or of the value of a package variable.
type body struct {
	node ast.Node
	sig  *types.Signature
	uses []types.Object // the functions and package variables of this package that it names
	// calls are what it names of other packages that saga code must not use.
	calls []use
}

// use is where code uses what saga code must not use.
type use struct {
	pos  token.Pos
	what string // e.g. "time.Now"
	bad  forbidden
}

// finding is what was reported, once.
type finding struct {
	pos token.Pos
	id  string
}

func newCode(pass *analysis.Pass) *code {
	p := &code{
		Pass:    pass,
		bodies:  make(map[*types.Func]*body),
		vars:    make(map[*types.Var]*variable),
		entries: make(map[*types.Func]*about),
		allowed: make(map[string]map[int]bool),
		seen:    make(map[finding]bool),
		orders:  make(map[*types.Func]*summary),

		generatedFiles: make(map[string]bool),
	}
	for _, file := range pass.Files {
		if p.isTest(file) {
			continue
		}
		p.generatedFiles[p.Fset.Position(file.FileStart).Filename] = ast.IsGenerated(file)
		p.readAllowed(file)
		for _, declared := range file.Decls {
			p.declaration(declared)
		}
	}
	for _, file := range pass.Files {
		if !p.isTest(file) {
			p.readWrites(file)
		}
	}
	p.findEntries()
	return p
}

// isTest reports whether a file belongs to the tests of a package. Their sagas do on purpose what sagas must not do.
func (p *code) isTest(file *ast.File) bool {
	return strings.HasSuffix(p.Fset.Position(file.FileStart).Filename, "_test.go")
}

func (p *code) declaration(declared ast.Decl) {
	switch declared := declared.(type) {
	case *ast.FuncDecl:
		if function, ok := p.TypesInfo.Defs[declared.Name].(*types.Func); ok && declared.Body != nil {
			p.bodies[function] = p.newBody(declared, function.Signature())
		}
	case *ast.GenDecl:
		for _, spec := range declared.Specs {
			values, ok := spec.(*ast.ValueSpec)
			if !ok || declared.Tok != token.VAR {
				continue
			}
			for i, name := range values.Names {
				one, ok := p.TypesInfo.Defs[name].(*types.Var)
				if !ok {
					continue
				}
				p.vars[one] = new(variable)
				if len(values.Values) == len(values.Names) {
					p.vars[one].value = p.newBody(values.Values[i], nil)
				} else if len(values.Values) == 1 {
					p.vars[one].value = p.newBody(values.Values[0], nil)
				}
			}
		}
	}
}

// newBody reads what a piece of code names.
func (p *code) newBody(node ast.Node, sig *types.Signature) *body {
	out := &body{node: node, sig: sig}
	ast.Inspect(node, func(node ast.Node) bool {
		if found, ok := p.forbiddenSyntax(node); ok {
			out.calls = append(out.calls, found)
		}
		name, ok := node.(*ast.Ident)
		if !ok {
			return true
		}
		used := p.TypesInfo.Uses[name]
		if used == nil || used.Pkg() == nil {
			if bad, found := forbiddenBuiltin(used); found {
				out.calls = append(out.calls, use{name.Pos(), used.Name(), bad})
			}
			return true
		}
		if function, ok := used.(*types.Func); ok {
			used = function.Origin()
		}
		if used.Pkg() == p.Pkg {
			if _, ok := used.(*types.Func); ok || used.Parent() == p.Pkg.Scope() {
				out.uses = append(out.uses, used)
			}
			return true
		}
		if bad, found := forbiddenObject(used); found {
			out.calls = append(out.calls, use{name.Pos(), nameOf(used), bad})
		}
		return true
	})
	return out
}

// nameOf returns the name of a function, method or variable, as code writes it.
func nameOf(object types.Object) string {
	prefix := object.Pkg().Name()
	if function, ok := object.(*types.Func); ok {
		if receiver := receiverOf(function); receiver != nil {
			prefix += "." + receiver.Obj().Name()
		}
	}
	return prefix + "." + object.Name()
}

// receiverOf returns the type whose method a function is, or nil.
func receiverOf(function *types.Func) *types.Named {
	receiver := function.Signature().Recv()
	if receiver == nil {
		return nil
	}
	named, _ := types.Unalias(deref(receiver.Type())).(*types.Named)
	return named
}

func deref(one types.Type) types.Type {
	if pointer, ok := types.Unalias(one).(*types.Pointer); ok {
		return pointer.Elem()
	}
	return one
}

// isContext reports whether a type is saga.Context.
func isContext(one types.Type) bool { return isSagaType(one, "Context") }

func isSagaType(one types.Type, name string) bool {
	if one == nil {
		return false
	}
	named, ok := types.Unalias(one).(*types.Named)
	return ok && named.Obj().Name() == name && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == sagaPackage
}

// isError reports whether a type is error.
func isError(one types.Type) bool {
	return one != nil && types.Identical(one, types.Universe.Lookup("error").Type())
}

// takesContext reports whether a function has a parameter of type saga.Context.
func takesContext(sig *types.Signature) bool {
	if sig == nil {
		return false
	}
	for parameter := range sig.Params().Variables() {
		if isContext(parameter.Type()) {
			return true
		}
	}
	return false
}

// callee returns the function that a call names, or nil.
func (p *code) callee(call *ast.CallExpr) *types.Func { return p.function(call.Fun) }

// function returns the function that an expression names, or nil.
func (p *code) function(expression ast.Expr) *types.Func {
	expression = ast.Unparen(expression)
	switch generic := expression.(type) {
	case *ast.IndexExpr:
		expression = ast.Unparen(generic.X)
	case *ast.IndexListExpr:
		expression = ast.Unparen(generic.X)
	}
	var name *ast.Ident
	switch expression := expression.(type) {
	case *ast.Ident:
		name = expression
	case *ast.SelectorExpr:
		name = expression.Sel
	default:
		return nil
	}
	function, ok := p.TypesInfo.Uses[name].(*types.Func)
	if !ok {
		return nil
	}
	return function.Origin()
}

// isSaga reports whether a function is the one of package saga with a name.
func isSaga(function *types.Func, name string) bool {
	return function != nil && function.Pkg() != nil && function.Pkg().Path() == sagaPackage && function.Name() == name
}

// signature returns the signature of a call, or nil for a conversion and for a builtin function.
func (p *code) signature(call *ast.CallExpr) *types.Signature {
	value := p.TypesInfo.Types[call.Fun]
	if value.IsType() || value.Type == nil {
		return nil
	}
	sig, _ := value.Type.Underlying().(*types.Signature)
	return sig
}

// passesContext reports whether a call has an argument that is a saga.Context.
func (p *code) passesContext(call *ast.CallExpr) bool {
	for _, argument := range call.Args {
		if isContext(p.TypesInfo.TypeOf(argument)) {
			return true
		}
	}
	return false
}
