package inbox

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// entry is one row of the ledger: the verdict on one command in one direction.
type entry struct {
	command participant.Command
	method  string
	verdict Verdict
	answer  []byte // The reply, the google.rpc.Status of a refusal, or the seconds of an acceptance.
}

// seen is what the ledger holds about one command.
type seen struct {
	action, compensation *entry
	epoch                uint64 // The highest of the scope, or of the saga if the command has no scope.
	horizon              time.Time
	unheard              bool // Nothing is known of the command's scope.
}

// add adds what was read of a row while looking for a command: its id, direction, method, verdict, answer, epoch and
// digest.
func (s *seen) add(command participant.Command, row []any) {
	var e entry
	e.command.CommandID, e.command.Direction = textOf(row[0]), participant.Direction(textOf(row[1]))
	e.method, e.verdict = textOf(row[2]), Verdict(textOf(row[3]))
	if answer, ok := row[4].([]byte); ok {
		e.answer = bytes.Clone(answer)
	}
	if epoch, ok := row[5].(int64); ok {
		e.command.Epoch = uint64(epoch)
	}
	e.command.RequestDigest = textOf(row[6])
	if command.Scope == "" {
		s.epoch = max(s.epoch, e.command.Epoch)
	}
	switch {
	case e.command.CommandID != command.CommandID:
	case e.command.Direction == participant.Action:
		s.action = &e
	default:
		s.compensation = &e
	}
}

// other returns the entry of the command id that is for another request than a call, or nil. An entry or a call without
// a digest, from an older orchestrator, matches everything. The digest is the action's for both directions.
func (s seen) other(command participant.Command, method string) *entry {
	for _, e := range []*entry{s.action, s.compensation} {
		switch {
		case e == nil:
		case e.command.Direction == command.Direction && e.method != "" && method != "" && e.method != method,
			e.command.RequestDigest != "" && command.RequestDigest != "" &&
				e.command.RequestDigest != command.RequestDigest:
			return e
		}
	}
	return nil
}

// purged reports whether the rows of a command may have been purged.
func (s seen) purged(command participant.Command) bool {
	return s.action == nil && s.compensation == nil && !command.Start.IsZero() && command.Start.Before(s.horizon)
}

func (s seen) in(d participant.Direction) *entry {
	if d == participant.Compensation {
		return s.compensation
	}
	return s.action
}

// hasEffect reports whether the action had an effect: it was executed or accepted.
func (s seen) hasEffect() bool {
	return s.action != nil && (s.action.verdict == Executed || s.action.verdict == Accepted)
}

func (e *entry) refused() bool {
	return e.verdict == Refused || e.verdict == RefusedLate || e.verdict == Closed
}

// refusal returns the stored refusal.
func (e *entry) refusal() error {
	var stored spb.Status
	if err := proto.Unmarshal(e.answer, &stored); err != nil {
		return fmt.Errorf("reading the stored refusal of %s: %w", e.command.CommandID, err)
	}
	return status.ErrorProto(&stored)
}

// marshalWait returns the answer of an accepted command: decimal seconds.
func marshalWait(wait time.Duration) []byte {
	return strconv.AppendInt(nil, int64(wait/time.Second), 10)
}

// wait returns the time that an accepted command was given to participant.Pending. It returns the shortest if the
// stored one is unreadable.
func (e *entry) wait() time.Duration {
	seconds, err := strconv.ParseInt(string(e.answer), 10, 32)
	if err != nil {
		return participant.MinPending
	}
	return time.Duration(seconds) * time.Second
}
