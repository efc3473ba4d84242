package sagacode

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"strings"
)

// facts are what a piece of code says: a function, the value of a variable, or an expression.
type facts struct {
	commands []string          // the methods that it sends commands to, "package.Service/Method"
	uses     []types.Object    // the functions and package variables that it names
	looksFor []*types.TypeName // the types of messages that it may look for in a refusal
	certain  []*types.TypeName // those of looksFor that are arguments of saga.Rejection
	unclear  string            // where a command is sent whose method isn't a constant
}

// registration is a call of saga.Register.
type registration struct {
	definition string
	code       ast.Expr
	in         *checked
}

// collector reads facts from a package.
type collector struct {
	*program
	in            *checked
	facts         map[types.Object]*facts
	registrations []registration
}

// collect reads the facts of all packages.
func (p *program) collect() *collector {
	c := &collector{program: p, facts: make(map[types.Object]*facts)}
	for _, one := range p.packages {
		c.in = one
		for _, file := range one.syntax {
			for _, declared := range file.Decls {
				c.declaration(declared)
			}
		}
	}
	return c
}

func (c *collector) declaration(declared ast.Decl) {
	switch declared := declared.(type) {
	case *ast.FuncDecl:
		if function := c.in.info.Defs[declared.Name]; function != nil && declared.Body != nil {
			c.facts[function] = c.read(declared.Body)
		}
	case *ast.GenDecl:
		for _, spec := range declared.Specs {
			values, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, name := range values.Names {
				variable := c.in.info.Defs[name]
				switch {
				case variable == nil || len(values.Values) == 0:
				case len(values.Values) == len(values.Names):
					c.facts[variable] = c.read(values.Values[i])
				default:
					c.facts[variable] = c.read(values.Values[0])
				}
			}
		}
	}
}

// read reads the facts of a piece of code of the package in.
func (c *collector) read(code ast.Node) *facts {
	out := new(facts)
	ast.Inspect(code, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Ident:
			c.ident(out, node)
		case *ast.CallExpr:
			c.call(out, node)
		case *ast.TypeAssertExpr:
			out.lookFor(c.in.info.TypeOf(node.Type))
		case *ast.TypeSwitchStmt:
			for _, clause := range node.Body.List {
				clause, _ := clause.(*ast.CaseClause)
				for _, one := range clause.List {
					out.lookFor(c.in.info.TypeOf(one))
				}
			}
		}
		return true
	})
	return out
}

// ident reads the name of a function or of a package variable.
func (c *collector) ident(out *facts, name *ast.Ident) {
	switch used := c.in.info.Uses[name].(type) {
	case *types.Func:
		out.uses = append(out.uses, used.Origin())
		for argument := range c.in.info.Instances[name].TypeArgs.Types() {
			found := out.lookFor(argument)
			if found != nil && isSaga(used, "Rejection") {
				out.certain = append(out.certain, found)
			}
		}
	case *types.Var:
		if used.Pkg() != nil && used.Parent() == used.Pkg().Scope() {
			out.uses = append(out.uses, used.Origin())
		}
	}
}

// lookFor adds a type if it is a pointer to a named one, as those of messages are. It returns it, or nil.
func (f *facts) lookFor(one types.Type) *types.TypeName {
	pointer, ok := types.Unalias(one).(*types.Pointer)
	if !ok {
		return nil
	}
	named, ok := types.Unalias(pointer.Elem()).(*types.Named)
	if !ok {
		return nil
	}
	f.looksFor = append(f.looksFor, named.Obj())
	return named.Obj()
}

// call reads a call of the functions of package saga that generated code uses.
func (c *collector) call(out *facts, call *ast.CallExpr) {
	called := c.callee(call)
	switch {
	case called == nil || len(call.Args) < 3:
	case isSaga(called, "Register"):
		if definition, ok := c.method(call.Args[1]); ok {
			c.registrations = append(c.registrations, registration{definition, call.Args[2], c.in})
		} else {
			out.unclear = fmt.Sprintf("%s registers a saga", c.place(call.Pos()))
		}
	case isSaga(called, "Call"), isSaga(called, "Broadcast"):
		if method, ok := c.method(call.Args[1]); ok {
			out.commands = append(out.commands, method)
		} else {
			out.unclear = fmt.Sprintf("%s sends a command", c.place(call.Pos()))
		}
	}
}

// callee returns the function that a call names, or nil.
func (c *collector) callee(call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	switch generic := fun.(type) {
	case *ast.IndexExpr:
		fun = generic.X
	case *ast.IndexListExpr:
		fun = generic.X
	}
	var name *ast.Ident
	switch fun := ast.Unparen(fun).(type) {
	case *ast.Ident:
		name = fun
	case *ast.SelectorExpr:
		name = fun.Sel
	default:
		return nil
	}
	function, _ := c.in.info.Uses[name].(*types.Func)
	return function
}

// method returns the value of a constant with the full name of a method, without its leading slash.
func (c *collector) method(argument ast.Expr) (string, bool) {
	value := c.in.info.Types[argument].Value
	if value == nil || value.Kind() != constant.String {
		return "", false
	}
	return strings.TrimPrefix(constant.StringVal(value), "/"), true
}

// isSaga reports whether a function is the one of package saga with a name.
func isSaga(function *types.Func, name string) bool {
	return function.Pkg() != nil && function.Pkg().Path() == sagaPackage && function.Name() == name
}
