package thirdparty

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Source is the source of the events that the register publishes.
const Source = "register"

// Publisher publishes the register's decisions. A treatyv1.EventServiceClient is one.
type Publisher interface {
	PublishEvents(ctx context.Context, request *treatyv1.PublishEventsRequest,
		options ...grpc.CallOption) (*treatyv1.PublishEventsResponse, error)
}

// examine returns what the register finds about a passport, which is empty if it vouches for the person, and whether it
// makes a decision at all.
func examine(passport string) (finding string, decides bool) {
	switch {
	case strings.HasPrefix(passport, "YY"):
		return "the passport was issued to somebody else", true
	case strings.HasPrefix(passport, "ZZ"):
		return "", false // The papers were mislaid. Somebody has to find them.
	default:
		return "", true
	}
}

// publishing configures how decisions are published.
const (
	publishAtOnce   = 100
	publishDeadline = 10 * time.Second
	firstRetry      = 100 * time.Millisecond
	longestRetry    = 10 * time.Second
)

// Run publishes each decision when it is due, until ctx ends. A decision that couldn't be published is published later,
// even after a restart. One that may have been published is published again, with the same id. A registration that is
// withdrawn before then gets no decision. Only one Run may be active at a time.
func (r *Register) Run(ctx context.Context, publisher Publisher) {
	retry := firstRetry
	for ctx.Err() == nil {
		wait, err := r.publishDue(ctx, publisher)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.WarnContext(ctx, "the register can't publish its decisions; trying again", "error", err, "in",
				retry.String())
			wait, retry = retry, min(2*retry, longestRetry)
		default:
			retry = firstRetry
		}
		r.pause(ctx, wait, err == nil)
	}
}

// wake wakes Run after a registration.
func (r *Register) wake() {
	select {
	case r.registered <- struct{}{}:
	default:
	}
}

// pause waits for some time, or forever if that is negative. If wanted, it returns early after a registration.
func (r *Register) pause(ctx context.Context, wait time.Duration, wakeable bool) {
	var over <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	registered := r.registered
	if !wakeable {
		registered = nil
	}
	select {
	case <-over:
	case <-registered:
	case <-ctx.Done():
	}
}

// publishDue publishes some of the decisions that are due, and returns how long it is until the next one is due. That
// is negative if there is none.
func (r *Register) publishDue(ctx context.Context, publisher Publisher) (wait time.Duration, err error) {
	due, next, err := r.due(ctx, time.Now())
	if err != nil {
		return 0, fmt.Errorf("reading the due decisions: %w", err)
	}
	if len(due) == 0 {
		if next.IsZero() {
			return -1, nil
		}
		return max(time.Until(next), 0), nil
	}
	request := &treatyv1.PublishEventsRequest{}
	for _, d := range due {
		event, err := d.event()
		if err != nil {
			return 0, err
		}
		request.Events = append(request.Events, event)
	}
	called, cancel := context.WithTimeout(ctx, publishDeadline)
	defer cancel()
	if _, err := publisher.PublishEvents(called, request); err != nil {
		return 0, fmt.Errorf("publishing: %w", err)
	}
	return 0, r.decided(ctx, due)
}

// decision is a decision that is due.
type decision struct {
	sequence                      int64
	reference, applicant, finding string
	at                            time.Time
}

func (d *decision) event() (*treatyv1.PublishedEvent, error) {
	var message proto.Message = &identityv1.ApplicantVerified{Applicant: d.applicant, RegisterReference: d.reference}
	if d.finding != "" {
		message = &identityv1.ApplicantTurnedDown{
			Applicant: d.applicant, RegisterReference: d.reference, Reason: d.finding,
		}
	}
	data, err := anypb.New(message)
	if err != nil {
		return nil, fmt.Errorf("serializing a decision: %w", err)
	}
	// Each registration has one decision.
	return &treatyv1.PublishedEvent{Id: d.reference, Source: Source, Time: timestamppb.New(d.at), Data: data}, nil
}

// due returns some of the decisions that are due, and when the first of the others is due.
func (r *Register) due(ctx context.Context, now time.Time) (due []*decision, next time.Time, err error) {
	rows, err := r.db.QueryContext(ctx, `
		SELECT sequence, reference, applicant, finding, decide_time FROM registrations
		WHERE decide_time IS NOT NULL AND withdrawn = 0 AND published = 0 ORDER BY decide_time LIMIT ?`, publishAtOnce)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var d decision
		var micros int64
		if err := rows.Scan(&d.sequence, &d.reference, &d.applicant, &d.finding, &micros); err != nil {
			return nil, time.Time{}, err
		}
		if d.at = time.UnixMicro(micros); d.at.After(now) {
			return due, d.at, nil
		}
		due = append(due, &d)
	}
	return due, time.Time{}, rows.Err()
}

// decided records that decisions were published.
func (r *Register) decided(ctx context.Context, decisions []*decision) error {
	return r.write(ctx, func(tx *sql.Tx) error {
		for _, d := range decisions {
			if _, err := tx.ExecContext(ctx, `UPDATE registrations SET published = 1 WHERE sequence = ?`,
				d.sequence); err != nil {
				return fmt.Errorf("recording a decision: %w", err)
			}
		}
		return nil
	})
}
