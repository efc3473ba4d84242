package saga

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// All runs branches side by side and returns when all have ended: nil when none failed, else the error of the one that failed first. The
// others stop before their next command then, and what is in flight is awaited. When the saga is undone, what ran side by side is undone
// side by side.
//
// Code that takes the error in its stride and goes another way keeps what the branches did until then: to have it undone, run All within
// Try.
//
// Each branch must use the Context that it is handed. One piece of a saga runs at a time, so branches may share variables.
func All(ctx Context, branches ...func(ctx Context) error) error {
	return branch(ctx, &machine.Branches{Count: len(branches)}, func(i int, ctx Context) error { return branches[i](ctx) })
}

// Each runs a branch for each item, all side by side unless AtMost sets a limit. When the saga compensates, it compensates no more
// branches at a time than ran at a time. Everything else is as in All.
func Each[T any](ctx Context, items []T, do func(ctx Context, item T) error, options ...EachOption) error {
	branches := &machine.Branches{Count: len(items)}
	for _, option := range options {
		option.each(branches)
	}
	return branch(ctx, branches, func(i int, ctx Context) error { return do(ctx, items[i]) })
}

// EachOption is a setting of Each. AtMost makes one.
type EachOption interface {
	each(branches *machine.Branches)
}

// AtMost limits how many branches of Each run at a time. The next item's branch starts when one ends, in the order of the items. A
// limit below 1 is no limit.
func AtMost(branches int) EachOption { return atMost(branches) }

type atMost int

func (o atMost) each(branches *machine.Branches) { branches.AtOnce = max(int(o), 0) }

// Try runs a scope: when its body returns an error, its own steps are undone, newest first, and Try returns the error once they are. The
// saga isn't undone by that: its code may go another way. A scope that fails behind a pivot or a retriable command of its own suspends the
// saga, since nothing is undone there. The body must use the Context that it is handed.
//
// A scope that is stopped because a branch beside it failed is undone too.
//
// With Within, the body is stopped when the time is up: what is in flight is awaited, the scope is undone, and Try returns
// ErrDeadline. It isn't stopped any more once a pivot or a retriable command of it is under way.
func Try(ctx Context, body func(ctx Context) error, options ...ScopeOption) error {
	branches := &machine.Branches{Count: 1, Undo: true}
	for _, option := range options {
		option.scope(branches)
	}
	return branch(ctx, branches, func(_ int, ctx Context) error { return body(ctx) })
}

// ScopeOption is a setting of Try.
type ScopeOption interface {
	scope(branches *machine.Branches)
}

// Within limits how long a scope or a wait may take. It counts from the moment at which that begins, and goes on counting while the
// orchestrator is down. A duration that isn't positive sets no limit.
func Within(d time.Duration) WithinOption { return WithinOption{d} }

// WithinOption is what Within makes: a ScopeOption and a WaitOption.
type WithinOption struct{ d time.Duration }

func (o WithinOption) scope(branches *machine.Branches) { branches.Within = max(o.d, 0) }

func branch(ctx Context, branches *machine.Branches, body func(i int, ctx Context) error) error {
	t := ctx.thread()
	errs := make([]error, branches.Count)
	branches.Body = func(i int, child *machine.Thread) *treatyv1.Failure {
		if errs[i] = body(i, t.child(child)); errs[i] != nil {
			return failureOf(errs[i])
		}
		return nil
	}
	switch result := t.machine.Branch(branches); {
	case result.Expired:
		return ErrDeadline
	case result.Failed >= 0:
		return errs[result.Failed]
	}
	return nil
}
