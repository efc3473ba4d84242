package dispatch

import (
	"context"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// CloseCommand implements engine.Dispatcher.
func (d *Dispatcher) CloseCommand(context.Context, *engine.Attempt) engine.Closed {
	return engine.Closed{Verdict: engine.NotKept}
}

// LookUp implements engine.Dispatcher.
func (d *Dispatcher) LookUp(context.Context, *engine.Attempt) engine.Known {
	return engine.Known{Verdict: engine.NotKept}
}
