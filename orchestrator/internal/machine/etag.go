package machine

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Etag returns the etag of a saga with a revision: of Saga.Revision, or as a store has kept it. It is empty for 0,
// which is no revision.
func Etag(revision uint64) string {
	if revision == 0 {
		return ""
	}
	return strconv.FormatUint(revision, 36)
}

// Matches returns whether an etag is still that of the saga. Every saga matches an empty etag.
func (s *Saga) Matches(etag string) bool { return etag == "" || etag == Etag(s.Revision) }

// CheckEtag returns an error that wraps [ErrChanged] if the saga doesn't match an etag.
func (s *Saga) CheckEtag(etag string) error {
	if s.Matches(etag) {
		return nil
	}
	now := strings.TrimPrefix(s.State.String(), "SAGA_STATE_")
	if s.Suspension != nil {
		now += " (" + strings.TrimPrefix(s.Suspension.GetReason().String(), "SUSPENSION_REASON_") + ")"
		if step := s.Suspension.GetStep(); step != "" {
			now += " at step " + step
		}
	}
	return fmt.Errorf("%w: it is %s", ErrChanged, now)
}

// noteDecidable notes whether a record changes what can be decided about the saga.
func (s *Saga) noteDecidable(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted, *treatyv1.Record_SagaRestarted, *treatyv1.Record_CompensationDecided,
		*treatyv1.Record_SagaSuspended, *treatyv1.Record_SagaResumed, *treatyv1.Record_SagaSucceeded,
		*treatyv1.Record_SagaCompensated:
		s.revised = true
	case *treatyv1.Record_StepDone:
		s.noteStuck(r.StepDone.GetStep())
		s.revised = s.revised || r.StepDone.GetDecision() != nil
	case *treatyv1.Record_StepRefused:
		s.noteStuck(r.StepRefused.GetStep())
		s.revised = s.revised || r.StepRefused.GetDecision() != nil
	}
}

// noteStuck notes that the step at which the saga is stuck has ended in the meantime.
func (s *Saga) noteStuck(step string) {
	if s.Suspension != nil && s.Suspension.GetStep() == step {
		s.revised = true
	}
}

// revise gives the saga its next revision, if the turn has changed what can be decided. The time keeps turns apart that
// have one number because a backup was restored between them.
func (s *Saga) revise(now time.Time) {
	if !s.revised {
		return
	}
	s.revised = false
	s.Revision = RevisionAt(s.ID, s.Turns, now)
}

// RevisionAt returns the revision of a saga that its turn with a number, made at a time, gives it.
func RevisionAt(saga string, turn uint64, now time.Time) uint64 {
	var at [16]byte
	binary.LittleEndian.PutUint64(at[:8], turn)
	binary.LittleEndian.PutUint64(at[8:], uint64(now.UnixMicro()))
	return max(fnv(fnv(offset64, []byte(saga)), at[:]), 1)
}

// The parameters of FNV-1a. The hashes of the standard library allocate.
const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

func fnv(hash uint64, data []byte) uint64 {
	for _, b := range data {
		hash = (hash ^ uint64(b)) * prime64
	}
	return hash
}
