package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const (
	// defaultTroubledAfter is how long a command must have failed before the log says so.
	defaultTroubledAfter = 30 * time.Second

	// maxTroubled is how many commands of one method are counted at most.
	maxTroubled = 100_000
)

// troubles are the commands of one method that have failed and are sent again. It says when the log is to say so: one
// line for all of them, and again every warnInterval. All methods may be called concurrently.
type troubles struct {
	// n is the number of commands. It is all that a command touches that doesn't fail.
	n atomic.Int32

	// mu guards what follows.
	mu       sync.Mutex
	commands map[troubledCommand]troubled
	logged   time.Time // when the log said so; zero while it has nothing to take back
}

type troubledCommand struct{ saga, step string }

// troubled is when a command failed for the first and the last time.
type troubled struct{ first, last time.Time }

// report is what the log says of a method whose commands fail.
type report struct {
	sagas int           // that wait
	since time.Duration // for how long the command has failed
}

// failed takes note of an attempt that failed. It returns true when the log is to say so: when the command has failed
// for the given time, and the log hasn't said so for a while. A command that hasn't failed again within expiry is no
// longer counted: it waits for something else, or isn't sent any more.
func (t *troubles) failed(c troubledCommand, now time.Time, after, expiry time.Duration) (report, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := now
	if known, ok := t.commands[c]; ok && now.Sub(known.last) <= expiry {
		first = known.first
	} else if !ok && len(t.commands) >= maxTroubled {
		return report{}, false
	}
	if t.commands == nil {
		t.commands = make(map[troubledCommand]troubled)
	}
	t.commands[c] = troubled{first: first, last: now}
	since := now.Sub(first)
	due := since >= after && (t.logged.IsZero() || now.Sub(t.logged) >= warnInterval)
	if due {
		t.logged = now
		for command, known := range t.commands {
			if now.Sub(known.last) > expiry {
				delete(t.commands, command)
			}
		}
	}
	t.n.Store(int32(len(t.commands)))
	return report{sagas: len(t.commands), since: since}, due
}

// ended takes note of a command that ended. It returns true when the log has said that commands fail, and this was the
// last one.
func (t *troubles) ended(c troubledCommand) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.commands, c)
	t.n.Store(int32(len(t.commands)))
	if len(t.commands) > 0 || t.logged.IsZero() {
		return false
	}
	t.logged = time.Time{}
	return true
}

// fails returns whether a command with this answer is sent again because its attempt failed.
func fails(answer engine.Answer) bool {
	switch answer.Outcome {
	case treatyv1.Outcome_OUTCOME_DONE, treatyv1.Outcome_OUTCOME_REFUSED:
		return false
	default:
		return answer.Pending == 0 && answer.Halt == engine.NoHalt
	}
}

// noteEnd takes note of how an attempt ended, and logs it when commands of its method fail for a while. Only a
// deployment changes that a command isn't served, so the log says that at once. p is nil if no participant is
// configured for the command.
func (d *Dispatcher) noteEnd(
	ctx context.Context, t *troubles, p *participant, call *engine.Attempt, answer engine.Answer,
) {
	command := troubledCommand{call.Saga, call.Step}
	if !fails(answer) {
		if t.n.Load() > 0 && t.ended(command) {
			d.logger.InfoContext(ctx, "commands of a method are answered again", d.about(p, call)...)
		}
		return
	}
	if ctx.Err() != nil {
		return // the attempt was cut off
	}
	after, level := d.troubledAfter, slog.LevelWarn
	message := "commands of a method fail again and again: look at the participant's log; they are sent again, and " +
		"their sagas wait"
	if answer.Outcome == treatyv1.Outcome_OUTCOME_MISDEPLOYED {
		after, level = 0, slog.LevelError
		message = "a participant doesn't serve a command: deploy it, or correct its configuration; the command is " +
			"sent again, and its saga waits"
		if p == nil {
			message = "no participant is configured for a command: start the orchestrator with one; its saga waits"
		}
	}
	said, due := t.failed(command, time.Now(), after, expiryOf(call.Call))
	if !due {
		return
	}
	d.logger.Log(ctx, level, message, append(d.about(p, call), "direction", call.Direction.String(), "saga", call.Saga,
		"step", call.Step, "attempt", call.Number, "failing_for", said.since.Round(time.Second), "sagas", said.sagas,
		"code", codes.Code(answer.Failure.GetCode()).String(), "error", answer.Failure.GetMessage())...)
}

// about returns the attributes of a log line that say which participant and method it is about.
func (d *Dispatcher) about(p *participant, call *engine.Attempt) []any {
	if p != nil {
		return []any{"participant", p.name, "target", p.target, "method", call.Call.Method}
	}
	if call.Participant != "" {
		return []any{"participant", call.Participant, "method", call.Call.Method}
	}
	return []any{"method", call.Call.Method}
}

// expiryOf returns the time within which a command that failed has certainly failed again, if it is still sent.
func expiryOf(call *contract.CallConfig) time.Duration {
	return warnInterval + 2*(max(maxInterval(call.Retry), misdeployedInterval)+maxRetryAfter+call.Timeout)
}

// unconfigured returns what is known of a method for which no participant is configured.
func (d *Dispatcher) unconfigured(method string) *troubles {
	t, _ := d.unserved.LoadOrStore(method, new(troubles))
	return t.(*troubles) //nolint:forcetypeassert // The map has no other values.
}
