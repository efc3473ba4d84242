package sagatest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// Complete completes the oldest command of a method that its participant has accepted, an action or a compensation, and
// tells the orchestrator. Reply is its reply, and the zero Answer a plausible one. Reject and Fail refuse it; the code
// must be one that refuses. LoseReply completes it without telling the orchestrator, which learns of it when it sends
// the command again. The test fails if no such command is waiting.
func (w *World) Complete(method string, answer Answer) {
	w.t.Helper()
	if err := w.complete(method, answer); err != nil {
		w.t.Fatalf("completing %s: %v", strings.TrimPrefix(method, "/"), err)
	}
}

func (w *World) complete(method string, answer Answer) error {
	call, err := w.callOf(method)
	if err != nil {
		return err
	}
	if err := w.checkAnswer(call, answer); err != nil {
		return err
	}
	if answer.loss == requestLost {
		return errors.New("the request of a command that was accepted can't be lost")
	}
	completion, err := w.participants.complete(call, answer)
	if err != nil || answer.loss == replyLost {
		return err
	}
	return w.whileDriving(func() error { return w.driving().Complete(w.t.Context(), completion) })
}

// complete ends a command at its participant.
func (p *participants) complete(call *contract.CallConfig, answer Answer) (engine.Completion, error) {
	for _, command := range p.all() {
		if command.Method != call.Method {
			continue
		}
		p.mu.Lock()
		e := p.entries[command.saga+" "+command.Step]
		p.mu.Unlock()
		if e == nil {
			continue // it never arrived
		}
		e.lock()
		if e.accepted(command.Compensation) {
			completion, err := p.end(e, command, call, answer)
			e.unlock()
			return completion, err
		}
		e.unlock()
	}
	return engine.Completion{}, errors.New("no such command has been accepted and waits to be completed: " +
		"let its participant answer with Accept, and let the saga come there with Settle")
}

// accepted reports whether a command waits to be completed.
func (e *entry) accepted(compensation bool) bool {
	if compensation {
		return !e.undone && e.undoPending > 0
	}
	return !e.undone && e.verdict == engine.WasAccepted
}

// end ends a command that was accepted.
func (p *participants) end(
	e *entry, command *Command, call *contract.CallConfig, answer Answer,
) (engine.Completion, error) {
	completion := engine.Completion{
		Saga: strings.TrimPrefix(command.saga, wire.SagaName("")), Step: command.Step, Direction: engine.Action,
	}
	if command.Compensation {
		completion.Direction = engine.Compensation
	}
	if answer.err != nil {
		failure := failed(call, answer.err)
		if failure.Outcome != treatyv1.Outcome_OUTCOME_REFUSED {
			return completion, fmt.Errorf("%w: that doesn't refuse the command; use a code such as "+
				"FAILED_PRECONDITION", answer.err)
		}
		completion.Refusal, completion.Settled = failure.Failure, true
		if command.Compensation {
			e.undoPending = 0
		} else {
			e.verdict, e.refusal = engine.WasRefused, failure.Failure
			e.actions-- // it has no effect after all
		}
		return completion, nil
	}
	reply := answer.reply
	if reply == nil {
		reply = plausible(call.Output, command.Request)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(reply)
	if err != nil {
		return completion, fmt.Errorf("serializing the reply: %w", err)
	}
	completion.Reply = append([]byte{}, data...)
	if command.Compensation {
		e.undone, e.undoReply = true, completion.Reply
		p.undid(e, command.saga, command.Step)
	} else {
		e.verdict, e.reply = engine.WasExecuted, completion.Reply
	}
	return completion, nil
}

// whileDriving calls a function of the engine, again while the orchestrator is killed and started again.
func (w *World) whileDriving(call func() error) error {
	for {
		err := call()
		if err == nil || !errors.Is(err, engine.ErrStopping) && !errors.Is(err, engine.ErrInDoubt) {
			return err
		}
		select {
		case <-time.After(time.Second): // the orchestrator is being started again
		case <-w.t.Context().Done():
			return err
		}
	}
}
