package sagavet

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// check reports the mistakes in a piece of saga code.
func (p *code) check(one *body) {
	for _, used := range one.calls {
		p.report(used.pos, used.bad.id, "%s %s", used.what, used.bad.why)
	}
	p.eachImported(one.node, func(name *ast.Ident, function *types.Func) {
		if found := p.about(function).Mistake; found.What != "" {
			p.report(name.Pos(), found.ID, "%s uses %s (%s), which %s", nameOf(function), found.What, found.Where,
				found.Why)
		}
	})
	p.checkState(one)
	p.checkErrors(one)
	p.checkContexts(one.node)
	p.checkMaps(one)
	p.checkRecover(one.node)
	p.checkOrder(one)
	if function := p.entryOf(one); function != nil {
		p.checkReplies(one.node)
	}
}

// entryOf returns the saga whose method a piece of code is, or nil.
func (p *code) entryOf(one *body) *about {
	declared, ok := one.node.(*ast.FuncDecl)
	if !ok {
		return nil
	}
	function, _ := p.TypesInfo.Defs[declared.Name].(*types.Func)
	return p.entries[function]
}

// checkErrors reports errors of commands and waits that the code doesn't look at.
func (p *code) checkErrors(one *body) {
	ast.Inspect(one.node, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ExprStmt:
			if call, ok := ast.Unparen(node.X).(*ast.CallExpr); ok && p.mayFail(call) {
				p.reportIgnored(call)
			}
		case *ast.AssignStmt:
			if len(node.Rhs) != 1 {
				break
			}
			call, ok := ast.Unparen(node.Rhs[0]).(*ast.CallExpr)
			last, named := node.Lhs[len(node.Lhs)-1].(*ast.Ident)
			if ok && named && last.Name == "_" && p.mayFail(call) {
				p.reportIgnored(call)
			}
		case *ast.DeferStmt:
			if p.passesContext(node.Call) {
				p.report(node.Pos(), "defer", "a deferred call with a Context also runs when a waiting saga is "+
					"evicted: return an error to undo what was done, or make the call before each return")
			}
		case *ast.BlockStmt:
			p.checkOverwritten(node.List)
		case *ast.CaseClause:
			p.checkOverwritten(node.Body)
		}
		return true
	})
}

// mayFail reports whether a call sends commands or waits, and returns an error.
func (p *code) mayFail(call *ast.CallExpr) bool {
	sig := p.signature(call)
	if sig == nil || sig.Results().Len() == 0 || !p.passesContext(call) {
		return false
	}
	return isError(sig.Results().At(sig.Results().Len() - 1).Type())
}

func (p *code) reportIgnored(call *ast.CallExpr) {
	p.report(call.Pos(), "ignored-error", "the error of %s is ignored, so the saga goes on as if it were done: return "+
		"the error, or handle it", callName(call))
}

func callName(call *ast.CallExpr) string {
	name := types.ExprString(call.Fun)
	if strings.Contains(name, "\n") || len(name) > 60 {
		return "a call"
	}
	return name
}

// checkOverwritten reports errors of commands and waits that the next statement that names them overwrites.
func (p *code) checkOverwritten(statements []ast.Stmt) {
	for i, statement := range statements {
		assigned, ok := statement.(*ast.AssignStmt)
		if !ok || len(assigned.Rhs) != 1 {
			continue
		}
		call, ok := ast.Unparen(assigned.Rhs[0]).(*ast.CallExpr)
		if !ok || !p.mayFail(call) {
			continue
		}
		failed := p.objectOf(assigned.Lhs[len(assigned.Lhs)-1])
		if failed == nil {
			continue
		}
		for _, next := range statements[i+1:] {
			if !p.names(next, failed) {
				continue
			}
			if again, ok := next.(*ast.AssignStmt); ok && p.assigns(again, failed) {
				p.reportIgnored(call)
			}
			break
		}
	}
}

// objectOf returns the variable that an expression names, or nil.
func (p *code) objectOf(expression ast.Expr) types.Object {
	name, ok := expression.(*ast.Ident)
	if !ok || name.Name == "_" {
		return nil
	}
	return p.TypesInfo.ObjectOf(name)
}

// names reports whether code names a variable.
func (p *code) names(in ast.Node, object types.Object) bool {
	found := false
	ast.Inspect(in, func(node ast.Node) bool {
		name, ok := node.(*ast.Ident)
		found = found || ok && p.TypesInfo.ObjectOf(name) == object
		return !found
	})
	return found
}

// assigns reports whether an assignment sets a variable without reading it.
func (p *code) assigns(statement *ast.AssignStmt, object types.Object) bool {
	if statement.Tok != token.ASSIGN && statement.Tok != token.DEFINE {
		return false
	}
	for _, read := range statement.Rhs {
		if p.names(read, object) {
			return false
		}
	}
	for _, to := range statement.Lhs {
		if p.objectOf(to) == object {
			return true
		}
	}
	return false
}

// checkReplies reports returns of a saga without a reply and without an error.
func (p *code) checkReplies(in ast.Node) {
	ast.Inspect(in, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if len(node.Results) == 2 && p.isNil(node.Results[0]) && p.isNil(node.Results[1]) {
				p.report(node.Pos(), "nil-reply", "the saga returns neither a reply nor an error, and is suspended: "+
					"return a reply, even if it is empty, or an error")
			}
		}
		return true
	})
}

func (p *code) isNil(expression ast.Expr) bool { return p.TypesInfo.Types[expression].IsNil() }

// checkContexts reports Contexts that are used outside of the branch or scope that received them.
func (p *code) checkContexts(in ast.Node) {
	ast.Inspect(in, func(node ast.Node) bool {
		literal, ok := node.(*ast.FuncLit)
		if !ok {
			return true
		}
		if sig, ok := p.TypesInfo.TypeOf(literal).(*types.Signature); ok && takesContext(sig) {
			p.checkBranch(literal)
		}
		return true
	})
}

func (p *code) checkBranch(branch *ast.FuncLit) {
	outside := func(expression ast.Expr) bool {
		root := rootOf(expression)
		if root == nil {
			return false
		}
		one, ok := p.TypesInfo.Uses[root].(*types.Var)
		return ok && (one.Pos() < branch.Pos() || one.Pos() >= branch.End())
	}
	kept := make(map[ast.Expr]bool)
	ast.Inspect(branch.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for _, to := range node.Lhs {
				if isContext(p.TypesInfo.TypeOf(to)) && outside(to) {
					kept[to] = true
					p.report(to.Pos(), "context", "%s keeps the Context of a branch or scope, which works only "+
						"inside: use the surrounding Context after it", types.ExprString(to))
				}
			}
		case *ast.KeyValueExpr:
			kept[node.Key] = true
		case *ast.SelectorExpr, *ast.Ident:
			used, _ := node.(ast.Expr)
			if kept[used] {
				return false
			}
			if selector, ok := node.(*ast.SelectorExpr); ok {
				kept[selector.Sel] = true // a field, which isn't named by itself
			}
			if isContext(p.TypesInfo.TypeOf(used)) && outside(used) {
				p.report(used.Pos(), "context", "%s belongs to the surrounding code: a branch or scope uses the "+
					"Context that it receives", types.ExprString(used))
				return false
			}
		}
		return true
	})
}

// checkRecover reports deferred functions that recover and don't panic again.
func (p *code) checkRecover(in ast.Node) {
	ast.Inspect(in, func(node ast.Node) bool {
		var within *ast.BlockStmt
		switch node := node.(type) {
		case *ast.FuncDecl:
			within = node.Body
		case *ast.FuncLit:
			within = node.Body
		default:
			return true
		}
		recovers, panics := token.NoPos, false
		ast.Inspect(within, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.FuncLit:
				return false
			case *ast.CallExpr:
				if name, ok := node.Fun.(*ast.Ident); ok {
					_, builtin := p.TypesInfo.Uses[name].(*types.Builtin)
					panics = panics || builtin && name.Name == "panic"
					if builtin && name.Name == "recover" {
						recovers = node.Pos()
					}
				}
			}
			return true
		})
		if recovers != token.NoPos && !panics {
			p.report(recovers, "recover", "recover also catches what stops saga code at a wait: leave it out, since a "+
				"panic suspends the saga and loses nothing")
		}
		return true
	})
}

// checkMaps reports ranging over a map where its order matters.
func (p *code) checkMaps(one *body) {
	ast.Inspect(one.node, func(node ast.Node) bool {
		ranged, ok := node.(*ast.RangeStmt)
		if !ok || !p.isMap(ranged.X) {
			return true
		}
		const instead = "sort its keys, for example with slices.Sorted(maps.Keys(m)), and range over those"
		ast.Inspect(ranged.Body, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok && p.passesContext(call) && !isPassive(p.callee(call)) {
				p.report(ranged.Pos(), "map-order", "a map has another order in each replay, so the calls inside "+
					"have, too: %s", instead)
				return false
			}
			return true
		})
		for _, list := range p.appended(ranged) {
			if !p.isSortedAfter(one.node, ranged, list) {
				p.report(ranged.Pos(), "map-order", "a map has another order in each replay, so %s has, too: %s, or "+
					"sort %s", list.Name(), instead, list.Name())
			}
		}
		return true
	})
}

// isPassive reports whether a function of package saga leaves nothing in the journal that depends on its order.
func isPassive(function *types.Func) bool {
	return isSaga(function, "Now") || isSaga(function, "Logger") || isSaga(function, "SetProgress")
}

// isMap reports whether ranging over an expression ranges over a map: it is one, or maps.Keys, Values or All of one.
func (p *code) isMap(expression ast.Expr) bool {
	if one := p.TypesInfo.TypeOf(expression); one != nil {
		if _, ok := one.Underlying().(*types.Map); ok {
			return true
		}
	}
	call, ok := ast.Unparen(expression).(*ast.CallExpr)
	if !ok {
		return false
	}
	called := p.callee(call)
	if called == nil || called.Pkg() == nil {
		return false
	}
	switch called.Pkg().Path() {
	case "maps":
		return called.Name() == "Keys" || called.Name() == "Values" || called.Name() == "All"
	case "slices":
		return called.Name() == "Collect" && len(call.Args) == 1 && p.isMap(call.Args[0])
	}
	return false
}

// appended returns the variables from outside of a loop that it appends to.
func (p *code) appended(loop *ast.RangeStmt) []types.Object {
	var out []types.Object
	ast.Inspect(loop.Body, func(node ast.Node) bool {
		assigned, ok := node.(*ast.AssignStmt)
		if !ok || len(assigned.Lhs) != 1 || len(assigned.Rhs) != 1 {
			return true
		}
		call, ok := assigned.Rhs[0].(*ast.CallExpr)
		if !ok {
			return true
		}
		name, ok := call.Fun.(*ast.Ident)
		list := p.objectOf(assigned.Lhs[0])
		if ok && name.Name == "append" && list != nil && (list.Pos() < loop.Pos() || list.Pos() >= loop.End()) {
			out = append(out, list)
		}
		return true
	})
	return out
}

// isSortedAfter reports whether code passes a variable to package sort or slices after a loop, or never uses it there.
func (p *code) isSortedAfter(in ast.Node, loop *ast.RangeStmt, list types.Object) bool {
	sorted, used := false, false
	ast.Inspect(in, func(node ast.Node) bool {
		if name, ok := node.(*ast.Ident); ok && name.Pos() >= loop.End() && p.TypesInfo.ObjectOf(name) == list {
			used = true
		}
		call, ok := node.(*ast.CallExpr)
		if !ok || call.Pos() < loop.End() {
			return true
		}
		called := p.callee(call)
		if called == nil || called.Pkg() == nil {
			return true
		}
		path := called.Pkg().Path()
		if path == "sort" || path == "slices" && strings.HasPrefix(called.Name(), "Sort") {
			for _, argument := range call.Args {
				sorted = sorted || p.names(argument, list)
			}
		}
		return true
	})
	return sorted || !used
}
