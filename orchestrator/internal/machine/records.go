package machine

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The records of every saga are made in one allocation each. They hold together: a step keeps what scheduled it, and a
// turn is kept as a whole.

func recordOfStart(started *treatyv1.SagaStarted) *treatyv1.Record {
	r := &struct {
		record treatyv1.Record
		kind   treatyv1.Record_SagaStarted
	}{}
	r.kind.SagaStarted = started
	r.record.Kind = &r.kind
	return &r.record
}

// newStepScheduled returns a record and what it schedules, which is empty.
func newStepScheduled() (*treatyv1.Record, *treatyv1.StepScheduled) {
	r := &struct {
		record    treatyv1.Record
		kind      treatyv1.Record_StepScheduled
		scheduled treatyv1.StepScheduled
	}{}
	r.kind.StepScheduled = &r.scheduled
	r.record.Kind = &r.kind
	return &r.record, &r.scheduled
}

func recordOfDone(in CommandEnded) *treatyv1.Record {
	r := &struct {
		record treatyv1.Record
		kind   treatyv1.Record_StepDone
		done   treatyv1.StepDone
	}{}
	r.done.Step, r.done.Reply, r.done.Attempts, r.done.Decision = in.Step, in.Reply, in.Attempts, in.Decision
	r.done.Principal = in.Principal
	r.kind.StepDone = &r.done
	r.record.Kind = &r.kind
	return &r.record
}

func recordOfSuccess(reply []byte) *treatyv1.Record {
	r := &struct {
		record    treatyv1.Record
		kind      treatyv1.Record_SagaSucceeded
		succeeded treatyv1.SagaSucceeded
	}{}
	r.succeeded.Reply = reply
	r.kind.SagaSucceeded = &r.succeeded
	r.record.Kind = &r.kind
	return &r.record
}

// turnInMaking is a turn with its records so far.
type turnInMaking struct {
	turn  treatyv1.Turn
	time  timestamppb.Timestamp
	space [2]*treatyv1.Record // what most turns need
}

func (t *turnInMaking) add(record *treatyv1.Record) {
	if t.turn.Records == nil {
		t.turn.Records = t.space[:0]
	}
	t.turn.Records = append(t.turn.Records, record)
}

// at returns the turn, made at a time.
func (t *turnInMaking) at(now time.Time) *treatyv1.Turn {
	t.time.Seconds, t.time.Nanos = now.Unix(), int32(now.Nanosecond())
	t.turn.Time = &t.time
	return &t.turn
}
