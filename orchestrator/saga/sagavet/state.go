package sagavet

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
)

// variable is a package variable.
type variable struct {
	value   *body     // what it starts with
	written token.Pos // where a function changes it
}

// fromOutside are the checks whose findings make the value of a variable another one after a restart.
var fromOutside = map[string]bool{"clock": true, "random": true, "environment": true, "file": true, "network": true}

// readWrites finds the functions that change package variables. Functions named init only set what they start with.
func (p *code) readWrites(file *ast.File) {
	for _, declared := range file.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok || function.Body == nil || function.Recv == nil && function.Name.Name == "init" {
			continue
		}
		p.eachWrite(function.Body, func(to ast.Expr, _ reach) {
			if known := p.vars[p.packageVariable(rootOf(to))]; known != nil && known.written == token.NoPos {
				known.written = to.Pos()
			}
		})
	}
}

// reach says what a change of an expression reaches.
type reach int

const (
	itself  reach = iota // the expression
	content              // what a map or slice holds, of which other code may have a copy
)

// eachWrite calls do for each expression that code assigns to, counts, deletes from, or passes the address of.
func (p *code) eachWrite(in ast.Node, do func(to ast.Expr, reaches reach)) {
	ast.Inspect(in, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			if node.Tok != token.DEFINE {
				for _, to := range node.Lhs {
					do(to, itself)
				}
			}
		case *ast.IncDecStmt:
			do(node.X, itself)
		case *ast.RangeStmt:
			if node.Tok == token.ASSIGN {
				do(node.Key, itself)
			}
		case *ast.CallExpr:
			if name, ok := node.Fun.(*ast.Ident); ok && len(node.Args) > 0 {
				_, builtin := p.TypesInfo.Uses[name].(*types.Builtin)
				if builtin && (name.Name == "delete" || name.Name == "clear") {
					do(node.Args[0], content)
				}
			}
			for _, argument := range node.Args {
				if address, ok := argument.(*ast.UnaryExpr); ok && address.Op == token.AND {
					do(address.X, itself)
				}
			}
		}
		return true
	})
}

// rootOf returns the variable that an expression is a part of, or nil.
func rootOf(expression ast.Expr) *ast.Ident {
	for {
		switch at := expression.(type) {
		case *ast.Ident:
			return at
		case *ast.ParenExpr:
			expression = at.X
		case *ast.StarExpr:
			expression = at.X
		case *ast.IndexExpr:
			expression = at.X
		case *ast.SelectorExpr:
			expression = at.X
		default:
			return nil
		}
	}
}

// packageVariable returns the package variable that a name stands for, or nil.
func (p *code) packageVariable(name *ast.Ident) *types.Var {
	if name == nil {
		return nil
	}
	one, ok := p.TypesInfo.Uses[name].(*types.Var)
	if !ok || one.Pkg() == nil || one.IsField() || one.Parent() != one.Pkg().Scope() {
		return nil
	}
	return one
}

// checkState reports package variables that change, and changes of the value that implements the sagas.
func (p *code) checkState(one *body) {
	p.eachWrite(one.node, func(to ast.Expr, reaches reach) {
		root := rootOf(to)
		switch {
		case root == nil:
		case p.packageVariable(root) != nil:
			p.report(root.Pos(), "shared-state", "saga code changes the package variable %s, which all sagas share, "+
				"and again in each replay: keep the value in a local variable, or let a participant keep it", root.Name)
		case p.isShared(one, root, to, reaches):
			p.report(to.Pos(), "shared-state", "saga code changes %s, which all sagas share, and again in each "+
				"replay: keep the value in a local variable, or let a participant keep it", types.ExprString(to))
		}
	})
	ast.Inspect(one.node, func(node ast.Node) bool {
		name, ok := node.(*ast.Ident)
		if !ok {
			return true
		}
		used := p.packageVariable(name)
		known := p.vars[used]
		if used == nil || known == nil {
			return true
		}
		if known.written != token.NoPos {
			p.report(name.Pos(), "shared-state", "saga code reads the package variable %s, which %s changes, so a "+
				"replay may read another value: put it into the saga's request, or ask a participant", name.Name,
				p.place(known.written))
			return true
		}
		if set, ok := p.setFromOutside(known.value); ok {
			p.report(name.Pos(), "shared-state", "saga code reads the package variable %s, which is set from %s when "+
				"the program starts, so it is another value after a restart: put it into the saga's request, or ask a "+
				"participant", name.Name, set.what)
		}
		return true
	})
}

// setFromOutside returns what the value of a variable comes from, if that is another value after a restart.
func (p *code) setFromOutside(value *body) (use, bool) {
	if value == nil {
		return use{}, false
	}
	for _, one := range value.calls {
		if fromOutside[one.bad.id] && !p.isAllowed(one.pos) && !inLiteral(value.node, one.pos) {
			return one, true
		}
	}
	return use{}, false
}

// inLiteral reports whether a position is in a function literal of a piece of code.
func inLiteral(in ast.Node, pos token.Pos) bool {
	found := false
	ast.Inspect(in, func(node ast.Node) bool {
		if literal, ok := node.(*ast.FuncLit); ok && literal.Pos() <= pos && pos < literal.End() {
			found = true
		}
		return !found
	})
	return found
}

// isShared reports whether an expression that is changed is a part of the value that implements sagas: it is reached
// from the receiver of one of its methods, over a pointer, a map or a slice.
func (p *code) isShared(one *body, root *ast.Ident, to ast.Expr, reaches reach) bool {
	if one.sig == nil || one.sig.Recv() == nil || p.TypesInfo.Uses[root] != one.sig.Recv() || ast.Unparen(to) == root {
		return false
	}
	receiver, ok := types.Unalias(deref(one.sig.Recv().Type())).(*types.Named)
	if !ok {
		return false
	}
	implements := false
	for entry := range p.entries {
		implements = implements || receiverOf(entry) == receiver
	}
	if !implements {
		return false
	}
	if reaches == content {
		return true
	}
	for at := to; ; {
		switch part := at.(type) {
		case *ast.ParenExpr:
			at = part.X
		case *ast.StarExpr, *ast.IndexExpr:
			return true
		case *ast.SelectorExpr:
			if _, pointer := p.TypesInfo.TypeOf(part.X).Underlying().(*types.Pointer); pointer {
				return true
			}
			at = part.X
		default:
			return false
		}
	}
}

// place returns where a position is, as FILE:LINE.
func (p *code) place(pos token.Pos) string {
	at := p.Fset.Position(pos)
	return fmt.Sprintf("%s:%d", filepath.Base(at.Filename), at.Line)
}
