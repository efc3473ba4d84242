package sagavet

import (
	"go/ast"
	"go/types"
	"slices"
)

// isGeneratedNode reports whether a program has written a piece of code.
func (p *code) isGeneratedNode(node ast.Node) bool {
	return p.generatedFiles[p.Fset.Position(node.Pos()).Filename]
}

// sagaCode returns all code that a saga may run: the functions that take a Context, and what they name.
func (p *code) sagaCode() []*body {
	var queue []*body
	for _, file := range p.Files {
		if p.isTest(file) || ast.IsGenerated(file) {
			continue
		}
		queue = append(queue, p.literals(file, queue)...)
	}
	for function, one := range p.bodies {
		if takesContext(one.sig) && !p.isGeneratedNode(one.node) || p.entries[function] != nil {
			queue = append(queue, one)
		}
	}
	seen := make(map[*body]bool)
	var out []*body
	for ; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if seen[at] || p.isGeneratedNode(at.node) {
			continue
		}
		seen[at] = true
		out = append(out, at)
		for _, used := range at.uses {
			queue = append(queue, p.follow(used)...)
		}
	}
	slices.SortFunc(out, func(a, b *body) int { return int(a.node.Pos() - b.node.Pos()) })
	return out
}

// literals returns the function literals in a piece of code that take a Context.
func (p *code) literals(in ast.Node, out []*body) []*body {
	ast.Inspect(in, func(node ast.Node) bool {
		if literal, ok := node.(*ast.FuncLit); ok {
			if sig, ok := p.TypesInfo.TypeOf(literal).(*types.Signature); ok && takesContext(sig) {
				out = append(out, p.newBody(literal, sig))
				return false
			}
		}
		return true
	})
	return out
}

// follow returns the code that runs if a function is called, or if the functions in a variable are.
func (p *code) follow(used types.Object) []*body {
	switch used := used.(type) {
	case *types.Func:
		if known := p.bodies[used]; known != nil {
			return []*body{known}
		}
		var out []*body
		if receiver := used.Signature().Recv(); receiver != nil {
			if wanted, ok := receiver.Type().Underlying().(*types.Interface); ok {
				p.findImplementations(wanted, func(method, implementation *types.Func) {
					if method.Name() == used.Name() {
						out = append(out, p.bodies[implementation])
					}
				})
			}
		}
		return out
	case *types.Var:
		known := p.vars[used]
		if known == nil || known.value == nil {
			return nil
		}
		var out []*body
		for _, named := range known.value.uses {
			if function, ok := named.(*types.Func); ok && p.bodies[function] != nil && p.holdsFunctions(used) {
				out = append(out, p.bodies[function])
			}
		}
		ast.Inspect(known.value.node, func(node ast.Node) bool {
			if literal, ok := node.(*ast.FuncLit); ok {
				sig, _ := p.TypesInfo.TypeOf(literal).(*types.Signature)
				out = append(out, p.newBody(literal, sig))
				return false
			}
			return true
		})
		return out
	}
	return nil
}

// holdsFunctions reports whether a variable holds functions, alone or in a list or map, rather than what functions have
// returned.
func (p *code) holdsFunctions(one *types.Var) bool {
	at := one.Type().Underlying()
	switch list := at.(type) {
	case *types.Slice:
		at = list.Elem().Underlying()
	case *types.Array:
		at = list.Elem().Underlying()
	case *types.Map:
		at = list.Elem().Underlying()
	}
	_, ok := at.(*types.Signature)
	return ok
}

// mistakeOf returns the first thing that a function does, itself or by another function, that saga code must not do.
func (p *code) mistakeOf(function *types.Func, seen map[*types.Func]bool) mistake {
	if seen[function] {
		return mistake{}
	}
	seen[function] = true
	known := p.bodies[function]
	if known == nil || takesContext(known.sig) && usesSaga(p.Pkg) {
		return mistake{} // it is saga code, in which the mistake itself is reported
	}
	for _, one := range known.calls {
		if !p.isAllowed(one.pos) {
			return mistake{ID: one.bad.id, What: one.what, Why: one.bad.why, Where: p.place(one.pos)}
		}
	}
	for _, used := range known.uses {
		if called, ok := used.(*types.Func); ok {
			if found := p.mistakeOf(called, seen); found.What != "" {
				return found
			}
		}
	}
	var found mistake
	p.eachImported(known.node, func(_ *ast.Ident, function *types.Func) {
		if found.What == "" {
			found = p.about(function).Mistake
		}
	})
	return found
}

// eachImported calls do for each name of a function of another package of the module.
func (p *code) eachImported(in ast.Node, do func(name *ast.Ident, function *types.Func)) {
	ast.Inspect(in, func(node ast.Node) bool {
		if name, ok := node.(*ast.Ident); ok {
			if function, ok := p.TypesInfo.Uses[name].(*types.Func); ok && function.Pkg() != nil &&
				function.Pkg() != p.Pkg {
				do(name, function.Origin())
			}
		}
		return true
	})
}
