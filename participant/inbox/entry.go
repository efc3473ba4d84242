package inbox

import (
	"fmt"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// entry is one row: what became of one command in one direction.
type entry struct {
	command participant.Command
	method  string
	verdict Verdict
	answer  []byte // the reply, the google.rpc.Status of a refusal, or the seconds of an acceptance
}

// seen is what is known of one command.
type seen struct {
	action, compensation *entry
	epoch                uint64 // the highest one of the saga
}

func (s seen) in(d participant.Direction) *entry {
	if d == participant.Compensation {
		return s.compensation
	}
	return s.action
}

// mayBeUndone returns whether the action has had an effect: it was executed, or it was accepted.
func (s seen) mayBeUndone() bool {
	return s.action != nil && (s.action.verdict == Executed || s.action.verdict == Accepted)
}

func (e *entry) refused() bool { return e.verdict == Refused || e.verdict == RefusedLate }

// refusal returns the stored refusal.
func (e *entry) refusal() error {
	var stored spb.Status
	if err := proto.Unmarshal(e.answer, &stored); err != nil {
		return fmt.Errorf("reading the stored refusal of %s: %w", e.command.CommandID, err)
	}
	return status.ErrorProto(&stored)
}

// patience is an acceptance as it is stored: decimal seconds.
func patience(wait time.Duration) []byte {
	return strconv.AppendInt(nil, int64(wait/time.Second), 10)
}

// patience returns how long the orchestrator was told to wait for a command that was accepted. What can't be read is the shortest.
func (e *entry) patience() time.Duration {
	seconds, err := strconv.ParseInt(string(e.answer), 10, 32)
	if err != nil {
		return participant.MinPending
	}
	return time.Duration(seconds) * time.Second
}
