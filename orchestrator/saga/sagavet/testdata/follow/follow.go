// Package follow has sagas that call functions which must not be called.
package follow

import (
	"time"

	"github.com/treatyhq/treaty/orchestrator/saga"
	"github.com/treatyhq/treaty/orchestrator/saga/sagavet/testdata/shared"
)

func elsewhere(ctx saga.Context, rules *shared.Rules) string {
	if shared.Late(saga.Now(ctx)) { // want `shared\.Late uses time\.Now \(shared\.go:28\), which gives another time in each replay.*\(clock\)`
		_, _ = rules.Open() // want `shared\.Rules\.Open uses os\.ReadFile \(shared\.go:42\), which .*\(file\)`
		return shared.Started().String()
	}
	return shared.Region() // want `shared\.Region uses os\.Getenv .*\(environment\)`
}

func here(ctx saga.Context) time.Time {
	var one clock = system{}
	return age(ctx, one)
}

func age(_ saga.Context, one clock) time.Time { return rounded(one.now()) }

func rounded(at time.Time) time.Time {
	return at.Truncate(time.Since(at)) // want `time\.Since .*\(clock\)`
}

type clock interface{ now() time.Time }

type system struct{}

func (system) now() time.Time { return time.Now() } // want `time\.Now .*\(clock\)`

var choose = func() time.Time { return time.Now() } // want `time\.Now .*\(clock\)`

func chosen(_ saga.Context) time.Time { return choose() }

var register = func(run func(saga.Context) error) {
	_ = time.Now()
}

func literal() {
	register(func(saga.Context) error {
		_ = time.Now() // want `time\.Now .*\(clock\)`
		return nil
	})
	_ = time.Now()
}
