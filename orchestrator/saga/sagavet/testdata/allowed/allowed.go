// Package allowed has sagas whose findings are silenced.
package allowed

import (
	"time"

	"github.com/treatyhq/treaty/orchestrator/saga"
)

func silenced(_ saga.Context) time.Duration {
	at := time.Now() //treaty:allow it is only logged
	//treaty:allow it is only logged,
	// and nobody reads it
	later := time.Now()
	_ = time.Now() // want `time\.Now .*\(clock\)`
	return later.Sub(at)
}

func without(_ saga.Context) time.Time {
	// want +1 `//treaty:allow silences nothing without a reason: write //treaty:allow REASON \(allow\)`
	//treaty:allow
	return time.Now() // want `time\.Now .*\(clock\)`
}
