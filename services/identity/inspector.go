package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// inspector completes the accepted inspections, plays the clerk, and informs the orchestrator. All of its work is in
// the database, so it continues after a restart. Its methods except wake are for one goroutine.
type inspector struct {
	store     *store
	completer *participant.Completer
	takes     time.Duration // how long an inspection takes
	accepted  chan struct{} // holds one token if there is a new one

	heartbeats  map[string]time.Time // when the next one is due, by command id
	undelivered []ending
}

// ending is the end of an inspection that must be reported to the orchestrator.
type ending struct {
	command participant.Command
	reply   *identityv1.PassportInspected
	refusal error // instead of the reply
	until   time.Time
}

const (
	heartbeatEvery = patience / 3
	callTimeout    = 5 * time.Second
	retryAfter     = time.Second
	idle           = time.Hour
)

func newInspector(store *store, completer *participant.Completer, takes time.Duration) *inspector {
	return &inspector{
		store: store, completer: completer, takes: takes,
		accepted: make(chan struct{}, 1), heartbeats: make(map[string]time.Time),
	}
}

// wake wakes run after an inspection was accepted. It may be called concurrently.
func (i *inspector) wake() {
	select {
	case i.accepted <- struct{}{}:
	default:
	}
}

// run completes inspections until ctx ends.
func (i *inspector) run(ctx context.Context) {
	for ctx.Err() == nil {
		next, err := i.round(ctx)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "inspections failed; trying again", "error", err)
			next = time.Now().Add(retryAfter)
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-i.accepted:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// round does what is due, and returns when the next work is due.
func (i *inspector) round(ctx context.Context) (next time.Time, err error) {
	pending, err := inbox.Pending(ctx, i.store.Inbox)
	if err != nil {
		return next, err
	}
	open, err := i.store.pendingInspections(ctx)
	if err != nil {
		return next, err
	}
	next = time.Now().Add(idle)
	var waiting []participant.Command
	for _, p := range pending {
		one := open[p.Command.CommandID]
		if one != nil && one.due.After(time.Now()) {
			waiting, next = append(waiting, p.Command), earlier(next, one.due)
			continue
		}
		if err := i.inspect(ctx, p.Command, one); err != nil {
			return next, err
		}
	}
	if !i.inform(ctx) {
		next = earlier(next, time.Now().Add(retryAfter))
	}
	return earlier(next, i.beat(ctx, waiting)), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// inspect completes or refuses one inspection. one is nil if the applicant's data were deleted in between.
func (i *inspector) inspect(ctx context.Context, command participant.Command, one *inspection) error {
	end := ending{command: command, refusal: i.finding(one), until: time.Now().Add(patience)}
	var err error
	if end.refusal != nil {
		err = inbox.Refuse(ctx, i.store.Inbox, command, end.refusal, func(tx *inbox.Tx) error {
			return i.store.removeInspection(ctx, tx, command.CommandID)
		})
	} else {
		now := time.Now().Truncate(time.Microsecond)
		end.reply, err = inbox.Complete(ctx, i.store.Inbox, command, func(
			tx *inbox.Tx,
		) (*identityv1.PassportInspected, error) {
			reply := &identityv1.PassportInspected{
				Inspection: one.name, Applicant: one.applicant, InspectTime: timestamppb.New(now),
			}
			return reply, i.store.endInspection(ctx, tx, command.CommandID, now)
		})
	}
	if errors.Is(err, inbox.ErrCompensated) {
		return nil // It was compensated after Pending returned it.
	}
	if err == nil {
		i.undelivered = append(i.undelivered, end)
	}
	return err
}

// finding is the clerk's finding: nil if the passport is genuine.
func (i *inspector) finding(one *inspection) error {
	switch {
	case one == nil || one.passport == "":
		return status.Error(codes.NotFound, "the applicant no longer exists")
	case strings.HasPrefix(one.passport, "FF"):
		return participant.Refuse(codes.FailedPrecondition, "the passport isn't genuine",
			&identityv1.PassportNotGenuine{Applicant: one.applicant, Finding: "the watermark is missing"})
	default:
		return nil
	}
}

// inform informs the orchestrator of inspections that have ended, and reports whether it was informed of all. An end
// that can't be delivered while the orchestrator waits is dropped: then the command arrives again and gets the stored
// answer.
func (i *inspector) inform(ctx context.Context) bool {
	undelivered, reachable := i.undelivered, true
	i.undelivered = nil
	for _, end := range undelivered {
		if reachable {
			err := i.informOne(ctx, end)
			if err == nil || errors.Is(err, participant.ErrStepEnded) {
				continue
			}
			slog.WarnContext(ctx, "an inspection has ended, but the orchestrator can't be informed", "command_id",
				end.command.CommandID, "error", err)
			// An error of one inspection doesn't stop the others.
			reachable = status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded
		}
		if time.Now().Before(end.until) {
			i.undelivered = append(i.undelivered, end)
		}
	}
	return len(i.undelivered) == 0
}

func (i *inspector) informOne(ctx context.Context, end ending) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if end.refusal != nil {
		return i.completer.Refuse(ctx, end.command, participant.Settle(end.refusal))
	}
	return i.completer.Complete(ctx, end.command, end.reply)
}

// beat sends the heartbeats that are due for pending inspections, and returns when the next one is due.
func (i *inspector) beat(ctx context.Context, waiting []participant.Command) (next time.Time) {
	now := time.Now()
	next = now.Add(idle)
	known := i.heartbeats
	i.heartbeats = make(map[string]time.Time, len(waiting))
	reachable := true
	for _, command := range waiting {
		due, seen := known[command.CommandID]
		switch {
		case !seen:
			due = now.Add(heartbeatEvery)
		case !due.After(now) && reachable:
			due, reachable = i.beatOne(ctx, command, now)
		}
		i.heartbeats[command.CommandID] = due
		if due.After(now) {
			next = earlier(next, due)
		} else {
			next = earlier(next, now.Add(retryAfter))
		}
	}
	return next
}

// beatOne sends a heartbeat. It returns when to send the next one, and whether the orchestrator was reachable.
func (i *inspector) beatOne(
	ctx context.Context, command participant.Command, now time.Time,
) (next time.Time, reachable bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch err := i.completer.Heartbeat(ctx, command); {
	case err == nil:
		return now.Add(heartbeatEvery), true
	case errors.Is(err, participant.ErrStepEnded):
		// The saga no longer waits. A compensation arrives, or an operator has decided otherwise. Either way,
		// heartbeats are useless.
		return now.Add(idle), true
	default:
		slog.WarnContext(ctx, "can't send the heartbeat of an inspection", "command_id", command.CommandID,
			"error", err)
		return now.Add(retryAfter), false
	}
}
