package saga

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// All runs branches in parallel and returns when all have ended. It returns nil if none failed, and otherwise the error
// of the branch that failed first. When a branch fails, the others stop before their next command, and All waits for
// the commands in flight. When the saga compensates, branches that ran in parallel are compensated in parallel.
//
// Code that handles the error and continues keeps what the branches did. To compensate it, run All within [Try].
//
// Each branch must use the Context that it receives. Only one branch runs at a time, so branches may share variables
// without a lock.
func All(ctx Context, branches ...func(ctx Context) error) error {
	return branch(ctx, &machine.Branches{Count: len(branches)}, func(i int, ctx Context) error {
		return branches[i](ctx)
	})
}

// Each runs one branch for each item, all in parallel unless [AtMost] sets a limit. Otherwise it behaves like [All].
// When the saga compensates, it compensates no more branches at a time than ran at a time.
func Each[T any](ctx Context, items []T, do func(ctx Context, item T) error, options ...EachOption) error {
	branches := &machine.Branches{Count: len(items)}
	for _, option := range options {
		option.each(branches)
	}
	return branch(ctx, branches, func(i int, ctx Context) error { return do(ctx, items[i]) })
}

// EachOption is a setting of [Each]. [AtMost] returns one.
type EachOption interface {
	each(branches *machine.Branches)
}

// AtMost limits how many branches of [Each] run at a time. When one ends, the branch of the next item starts. A limit
// below 1 is no limit.
func AtMost(branches int) EachOption { return atMost(branches) }

type atMost int

func (o atMost) each(branches *machine.Branches) { branches.AtOnce = max(int(o), 0) }

// Try runs a scope. When its body returns an error, the orchestrator compensates the scope's steps, newest first. Then
// Try returns the error, and the code may take another path; the rest of the saga is not compensated. The body must use
// the Context that it receives.
//
// With [Within], the scope has a deadline. When it passes, the body stops before its next command, Try waits for the
// commands in flight, and the scope is compensated. Then Try returns [ErrDeadline]. The deadline no longer counts once
// the scope has sent a pivot or a retriable command.
//
// A scope is also compensated when it stops because a parallel branch failed. A scope that fails after its own pivot or
// retriable command suspends the saga, because nothing is compensated after those.
func Try(ctx Context, body func(ctx Context) error, options ...ScopeOption) error {
	branches := &machine.Branches{Count: 1, Compensate: true}
	for _, option := range options {
		option.scope(branches)
	}
	return branch(ctx, branches, func(_ int, ctx Context) error { return body(ctx) })
}

// ScopeOption is a setting of [Try]. [Within] returns one.
type ScopeOption interface {
	scope(branches *machine.Branches)
}

// Within limits how long [Try] or [Await] may take. The time counts from the call and includes the time that the
// orchestrator is down. A duration that isn't positive sets no limit.
func Within(d time.Duration) WithinOption { return WithinOption{d} }

// WithinOption is a [ScopeOption] and a [WaitOption]. [Within] returns one.
type WithinOption struct{ d time.Duration }

func (o WithinOption) scope(branches *machine.Branches) { branches.Within = max(o.d, 0) }

func branch(ctx Context, branches *machine.Branches, body func(i int, ctx Context) error) error {
	t, err := tryEnter(ctx)
	if err != nil {
		return err
	}
	defer t.leave()
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
