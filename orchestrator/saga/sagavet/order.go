package sagavet

import (
	"go/ast"
	"go/token"
	"go/types"
)

// summary is what a function sends.
type summary struct {
	// Pivot and Retriable are the names of commands that it may send, the first of each kind.
	Pivot, Retriable string

	// Passes is the command after which nothing is compensated, if the function has surely sent it, and it was done,
	// when it returns without an error.
	Passes string

	// Compensates is a compensatable command that it surely sends before any other that passes the point of no return.
	Compensates string
}

func (s *summary) empty() bool { return *s == summary{} }

// order returns what a function sends, or nothing for one that calls itself.
func (p *code) order(function *types.Func) *summary {
	if known := p.orders[function]; known != nil {
		return known
	}
	out := new(summary)
	p.orders[function] = out
	one := p.bodies[function]
	if one == nil {
		*out = p.about(function).Order
		return out
	}
	if declared, ok := one.node.(*ast.FuncDecl); ok && takesContext(one.sig) && !p.isGeneratedNode(one.node) {
		walk := &orderWalk{code: p, summary: out, silent: true}
		walk.whole(declared.Body, one.sig)
	}
	return out
}

// checkOrder reports commands that can't follow the point of no return.
func (p *code) checkOrder(one *body) {
	walk := &orderWalk{code: p, summary: new(summary)}
	switch node := one.node.(type) {
	case *ast.FuncDecl:
		entry := p.entryOf(one)
		walk.fromStart = entry != nil && entry.Kind != retriable
		walk.whole(node.Body, one.sig)
	case *ast.FuncLit:
		if p.isEnclosed(one) {
			return // it is read with the function around it
		}
		walk.whole(node.Body, one.sig)
	}
}

// isEnclosed reports whether a function literal is in saga code that is read from its beginning.
func (p *code) isEnclosed(literal *body) bool {
	for _, one := range p.bodies {
		if takesContext(one.sig) && one.node.Pos() <= literal.node.Pos() && literal.node.End() <= one.node.End() {
			return true
		}
	}
	return false
}

// orderWalk follows code in the order in which it runs. It knows less than a run: only what holds for each run that
// comes by.
type orderWalk struct {
	*code

	summary   *summary
	silent    bool // reports nothing
	fromStart bool // the code is that of a saga from its beginning, so nothing was sent before
	sent      bool // a command that may have passed the point of no return was sent

	maybe    bool // a return before may have ended the function without an error
	branches int  // how many parallel branches the code is in
	returns  []string
}

// state is what holds at a point of the code.
type state struct {
	passed  string       // the command that has passed the point of no return; empty: it isn't known whether one has
	pending string       // the command that has, if failed is nil
	failed  types.Object // the error of pending
	error   bool         // the code runs because an error isn't nil
	inner   bool         // the code runs on a condition
}

func (w *orderWalk) whole(body *ast.BlockStmt, sig *types.Signature) {
	end, ended := w.block(body.List, state{})
	if !ended {
		w.returns = append(w.returns, end.passed)
	}
	if sig.Results().Len() > 0 && isError(sig.Results().At(sig.Results().Len()-1).Type()) || !ended {
		w.summary.Passes = w.passes()
	}
}

// passes returns the command that each return has passed, or nothing.
func (w *orderWalk) passes() string {
	passed := ""
	for _, one := range w.returns {
		if one == "" {
			return ""
		}
		passed = one
	}
	return passed
}

// block follows statements. It reports whether the last one ends the function, or the block.
func (w *orderWalk) block(statements []ast.Stmt, at state) (state, bool) {
	for _, statement := range statements {
		var ended bool
		if at, ended = w.statement(statement, at); ended {
			return at, true
		}
	}
	return at, false
}

func (w *orderWalk) statement(statement ast.Stmt, at state) (state, bool) {
	switch one := statement.(type) {
	case *ast.BlockStmt:
		return w.block(one.List, at)
	case *ast.LabeledStmt:
		return w.statement(one.Stmt, at)
	case *ast.IfStmt:
		return w.branch(one, at)
	case *ast.ReturnStmt:
		return w.end(one, at), true
	case *ast.BranchStmt:
		return at, true
	case *ast.AssignStmt:
		at = w.calls(one, at)
		return w.assigned(one, at), false
	case *ast.ForStmt:
		at = w.optional(one.Init, at)
		w.inside(one.Body.List, at)
		return w.lose(at, one), false
	case *ast.RangeStmt:
		at = w.calls(one.X, at)
		w.inside(one.Body.List, at)
		return w.lose(at, one), false
	case *ast.SwitchStmt:
		at = w.optional(one.Init, at)
		if one.Tag != nil {
			at = w.calls(one.Tag, at)
		}
		return w.clauses(one.Body, at), false
	case *ast.TypeSwitchStmt:
		at = w.optional(one.Init, at)
		return w.clauses(one.Body, at), false
	case *ast.DeferStmt, *ast.GoStmt, *ast.SelectStmt:
		return at, false
	case *ast.ExprStmt:
		at = w.calls(one, at)
		if call, ok := one.X.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "panic" {
				return at, true
			}
		}
		at.pending, at.failed = "", nil
		return at, false
	default:
		return w.calls(one, at), false
	}
}

func (w *orderWalk) optional(statement ast.Stmt, at state) state {
	if statement == nil {
		return at
	}
	at, _ = w.statement(statement, at)
	return at
}

// inside follows statements that run on a condition. It returns where they end.
func (w *orderWalk) inside(statements []ast.Stmt, at state) (state, bool) {
	at.inner = true
	return w.block(statements, at)
}

// lose returns the state after code that may have set the error of the pending command.
func (w *orderWalk) lose(at state, after ast.Node) state {
	if at.failed != nil && w.names(after, at.failed) {
		at.pending, at.failed = "", nil
	}
	return at
}

func (w *orderWalk) clauses(body *ast.BlockStmt, at state) state {
	for _, one := range body.List {
		if clause, ok := one.(*ast.CaseClause); ok {
			w.inside(clause.Body, at)
		}
	}
	return w.lose(at, body)
}

// branch follows an if statement. It knows what a comparison of an error with nil says about the pending command.
func (w *orderWalk) branch(one *ast.IfStmt, at state) (state, bool) {
	at = w.optional(one.Init, at)
	at = w.calls(one.Cond, at)
	yes, no := at, at
	if compared, isNil := w.comparison(one.Cond); compared != nil {
		failed, done := &yes, &no
		if isNil {
			failed, done = &no, &yes
		}
		failed.error = true
		if at.failed == compared {
			done.passed = at.pending
			failed.pending, failed.failed, done.pending, done.failed = "", nil, "", nil
		}
	}
	yes, yesEnded := w.inside(one.Body.List, yes)
	noEnded := false
	if one.Else != nil {
		no, noEnded = w.inside([]ast.Stmt{one.Else}, no)
	}
	out := at
	switch {
	case yesEnded && noEnded:
		return out, true
	case yesEnded:
		out.passed, out.pending, out.failed = no.passed, no.pending, no.failed
	case noEnded:
		out.passed, out.pending, out.failed = yes.passed, yes.pending, yes.failed
	default:
		if yes.passed == "" || no.passed == "" {
			out.passed = ""
		} else {
			out.passed = yes.passed
		}
		out.pending, out.failed = "", nil
	}
	return out, false
}

// comparison returns the error that a condition compares with nil, and whether the condition holds for nil.
func (w *orderWalk) comparison(condition ast.Expr) (compared types.Object, isNil bool) {
	binary, ok := ast.Unparen(condition).(*ast.BinaryExpr)
	if !ok || binary.Op != token.EQL && binary.Op != token.NEQ || !w.isNil(binary.Y) {
		return nil, false
	}
	object := w.objectOf(ast.Unparen(binary.X))
	if object == nil || !isError(object.Type()) {
		return nil, false
	}
	return object, binary.Op == token.EQL
}

// assigned remembers the variable that holds the error of the command that was just sent.
func (w *orderWalk) assigned(one *ast.AssignStmt, at state) state {
	last := w.objectOf(one.Lhs[len(one.Lhs)-1])
	if at.pending != "" && at.failed == nil {
		if len(one.Rhs) != 1 || last == nil || !isError(last.Type()) {
			at.pending = ""
			return at
		}
		at.failed = last
		return at
	}
	if at.failed != nil && w.assigns(one, at.failed) {
		at.pending, at.failed = "", nil
	}
	return at
}

// end remembers what a return has passed.
func (w *orderWalk) end(one *ast.ReturnStmt, at state) state {
	direct := at.pending == "" || at.failed != nil
	for _, result := range one.Results {
		at = w.calls(result, at)
	}
	passed := at.passed
	if len(one.Results) > 0 {
		last := one.Results[len(one.Results)-1]
		switch {
		case at.error && !w.isNil(last), w.makesError(last):
			return at // it returns an error
		case direct && at.pending != "" && at.failed == nil,
			at.failed != nil && w.objectOf(last) == at.failed:
			passed = at.pending // it returns the error of the command
		}
	}
	if at.inner {
		w.maybe = true
	}
	w.returns = append(w.returns, passed)
	return at
}

// makesError reports whether an expression is an error that isn't nil.
func (w *orderWalk) makesError(expression ast.Expr) bool {
	call, ok := ast.Unparen(expression).(*ast.CallExpr)
	if !ok {
		return false
	}
	called := w.callee(call)
	if called == nil || called.Pkg() == nil {
		return false
	}
	switch called.Pkg().Path() + "." + called.Name() {
	case "errors.New", "fmt.Errorf", "google.golang.org/grpc/status.Error", "google.golang.org/grpc/status.Errorf":
		return true
	}
	return false
}

// calls follows the calls in a statement or an expression, in the order in which they are written.
func (w *orderWalk) calls(in ast.Node, at state) state {
	ast.Inspect(in, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			at = w.call(node, at)
		}
		return true
	})
	return at
}

func (w *orderWalk) call(call *ast.CallExpr, at state) state {
	called := w.callee(call)
	switch {
	case called == nil || !w.passesContext(call):
		return at
	case isSaga(called, "All") || isSaga(called, "Each") || isSaga(called, "Try"):
		return w.bodies(called.Name(), call, at)
	}
	known := w.about(called)
	if known.Command != "" {
		return w.send(called.Name(), known.Kind, call.Pos(), at)
	}
	at = w.helper(w.order(called), called.Name(), call.Pos(), at)
	if at.pending != "" && at.failed == nil && !w.mayFail(call) {
		at.passed, at.pending = at.pending, ""
	}
	return at
}

// send follows a command.
func (w *orderWalk) send(name, kind string, pos token.Pos, at state) state {
	switch kind {
	case compensatable:
		if at.passed != "" {
			w.find(pos, "order", "%s is compensatable, and nothing is compensated after %s: send it before, or make "+
				"it retriable in its contract", name, at.passed)
		} else if w.summary.Compensates == "" && w.certain(at) && at.pending == "" {
			w.summary.Compensates = name
		}
	case pivot:
		w.sent = true
		w.summary.Pivot = orElse(w.summary.Pivot, name)
		if w.branches > 0 {
			w.pivotInBranch(name, pos)
			return at
		}
		if at.passed != "" {
			w.find(pos, "order", "%s is a pivot, and a saga has one point of no return, which %s has passed: make it "+
				"retriable in its contract", name, at.passed)
			return at
		}
		at.pending, at.failed = name, nil
	case retriable:
		if w.branches > 0 && w.fromStart && !w.sent && at.passed == "" {
			w.find(pos, "branch-order", "%s is retriable, and a parallel branch might still fail, so it can't be the "+
				"point of no return here: send it after the branches, or after a pivot", name)
		}
		w.sent = w.sent || w.branches == 0
		w.summary.Retriable = orElse(w.summary.Retriable, name)
		if at.passed == "" {
			at.passed = name
		}
	}
	return at
}

func (w *orderWalk) pivotInBranch(name string, pos token.Pos) {
	w.find(pos, "branch-order", "%s is a pivot, and can't be in a parallel branch, because another one might still "+
		"fail: send it before or after the branches", name)
}

// helper follows a function that may send commands.
func (w *orderWalk) helper(known *summary, name string, pos token.Pos, at state) state {
	switch {
	case known.Compensates == "":
	case at.passed != "":
		w.find(pos, "order", "%s sends %s, which is compensatable, and nothing is compensated after %s: send it "+
			"before, or make it retriable in its contract", name, known.Compensates, at.passed)
	case w.summary.Compensates == "" && w.certain(at) && at.pending == "":
		w.summary.Compensates = known.Compensates
	}
	if known.Pivot != "" {
		w.summary.Pivot = orElse(w.summary.Pivot, known.Pivot)
		if w.branches > 0 {
			w.pivotInBranch(known.Pivot, pos)
		}
	}
	w.summary.Retriable = orElse(w.summary.Retriable, known.Retriable)
	w.sent = w.sent || known.Pivot != "" || known.Retriable != ""
	if known.Passes != "" && at.passed == "" && w.branches == 0 {
		at.pending, at.failed = known.Passes, nil
	}
	return at
}

// bodies follows the branches of All and Each, and the body of Try.
func (w *orderWalk) bodies(name string, call *ast.CallExpr, at state) state {
	if name != "Try" {
		w.branches++
		defer func() { w.branches-- }()
	}
	for _, argument := range call.Args {
		sig, ok := w.TypesInfo.TypeOf(argument).Underlying().(*types.Signature)
		if !ok || !takesContext(sig) {
			continue
		}
		literal, ok := ast.Unparen(argument).(*ast.FuncLit)
		if !ok {
			if function := w.code.function(argument); function != nil {
				at = w.helper(w.order(function), function.Name(), argument.Pos(), at)
			}
			continue
		}
		inner := &orderWalk{
			code: w.code, summary: w.summary, silent: w.silent, fromStart: w.fromStart, sent: w.sent,
			branches: w.branches, maybe: w.maybe || at.inner || name == "Each",
		}
		end, ended := inner.block(literal.Body.List, at)
		if !ended {
			inner.returns = append(inner.returns, end.passed)
		}
		w.sent = w.sent || inner.sent
		if passed := inner.passes(); name == "Try" && at.passed == "" && passed != "" {
			at.pending, at.failed = passed, nil
		}
	}
	return at
}

// certain reports whether each run of the function comes by.
func (w *orderWalk) certain(at state) bool { return !w.maybe && !at.inner }

func (w *orderWalk) find(pos token.Pos, id, format string, arguments ...any) {
	if !w.silent {
		w.report(pos, id, format, arguments...)
	}
}

func orElse(one, other string) string {
	if one != "" {
		return one
	}
	return other
}
