package sagacode

import (
	"go/ast"
	"go/types"
	"maps"
	"slices"
)

// code is what the code of a saga does, with everything that it calls.
type code struct {
	commands []string          // sorted
	looksFor []*types.TypeName // each once
	certain  []*types.TypeName
	unclear  string
}

// sagas returns the code of each saga definition that is implemented in the packages that were asked for.
func (c *collector) sagas() map[string]*code {
	out := make(map[string]*code)
	for _, registered := range c.registrations {
		c.in = registered.in
		start := c.read(registered.code)
		if method := c.interfaceMethod(registered.code); method != nil {
			start = &facts{uses: slices.DeleteFunc(c.implementations(method), func(one types.Object) bool {
				return c.byPath[one.Pkg().Path()].DepOnly
			})}
			if len(start.uses) == 0 {
				continue // other packages implement it
			}
		} else if registered.in.DepOnly {
			continue
		}
		found := c.follow(start)
		if earlier := out[registered.definition]; earlier != nil {
			found.add(earlier)
		}
		out[registered.definition] = found
	}
	return out
}

// interfaceMethod returns the method of an interface that an expression selects, or nil.
func (c *collector) interfaceMethod(selected ast.Expr) *types.Func {
	selector, ok := ast.Unparen(selected).(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	method, ok := c.in.info.Uses[selector.Sel].(*types.Func)
	if !ok || !isAbstract(method) {
		return nil
	}
	return method
}

// isAbstract reports whether a function is a method of an interface.
func isAbstract(function *types.Func) bool {
	receiver := function.Signature().Recv()
	return receiver != nil && types.IsInterface(receiver.Type())
}

// implementations returns the methods that implement one of an interface, in all packages.
func (c *collector) implementations(method *types.Func) []types.Object {
	wanted, ok := method.Signature().Recv().Type().Underlying().(*types.Interface)
	if !ok {
		return nil
	}
	var out []types.Object
	for _, one := range c.packages {
		scope := one.types.Scope()
		for _, name := range scope.Names() {
			declared, ok := scope.Lookup(name).(*types.TypeName)
			if !ok || types.IsInterface(declared.Type()) || isGeneric(declared.Type()) {
				continue
			}
			pointer := types.NewPointer(declared.Type())
			if !types.Implements(pointer, wanted) {
				continue
			}
			found, _, _ := types.LookupFieldOrMethod(pointer, true, method.Pkg(), method.Name())
			if function, ok := found.(*types.Func); ok {
				out = append(out, function.Origin())
			}
		}
	}
	return out
}

// follow returns what a piece of code does, with everything that it names, directly or not.
func (c *collector) follow(start *facts) *code {
	out := new(code)
	commands := make(map[string]bool)
	seen := make(map[types.Object]bool)
	for queue := []*facts{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, command := range at.commands {
			commands[command] = true
		}
		out.add(&code{looksFor: at.looksFor, certain: at.certain, unclear: at.unclear})
		for _, used := range at.uses {
			if seen[used] {
				continue
			}
			seen[used] = true
			if known := c.facts[used]; known != nil {
				queue = append(queue, known)
			}
			if function, ok := used.(*types.Func); ok && isAbstract(function) {
				queue = append(queue, &facts{uses: c.implementations(function)})
			}
		}
	}
	out.commands = slices.Sorted(maps.Keys(commands))
	return out
}

// isGeneric reports whether a type has parameters. Its instances are what implements interfaces.
func isGeneric(one types.Type) bool {
	named, ok := one.(*types.Named)
	return ok && named.TypeParams().Len() > 0
}

// add adds what other code does.
func (c *code) add(other *code) {
	c.commands = append(c.commands, other.commands...)
	slices.Sort(c.commands)
	c.commands = slices.Compact(c.commands)
	for _, one := range other.looksFor {
		if !slices.Contains(c.looksFor, one) {
			c.looksFor = append(c.looksFor, one)
		}
	}
	for _, one := range other.certain {
		if !slices.Contains(c.certain, one) {
			c.certain = append(c.certain, one)
		}
	}
	if c.unclear == "" {
		c.unclear = other.unclear
	}
}
