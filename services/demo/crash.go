package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// lookEvery is how often to check whether the identity step is in flight.
const lookEvery = 5 * time.Millisecond

// issueCardOverCrash kills the orchestrator while the identity service waits for its slow third party.
func (d *demo) issueCardOverCrash(ctx context.Context) error {
	d.heading("IssueCard: Katherine applies, and the orchestrator is killed in the middle (kill -9)")
	request := application("katherine-applies", katherine, firstHome)
	first := make(chan ended, 1)
	go func() { first <- d.apply(ctx, request) }()
	name, command, err := d.untilIdentity(ctx, "acme.card.v1.CardSagas/IssueCard")
	if err != nil {
		return err
	}
	orchestrator := d.company.Process(company.Orchestrator)
	before := orchestrator.PID()
	if err := orchestrator.Kill(); err != nil {
		return err
	}
	killed := event{time.Now(), fmt.Sprintf("✗ kill -9 of the orchestrator (process %d)", before)}
	told := <-first
	if err := orchestrator.Start(); err != nil {
		return err
	}
	// It answers while it still recovers the sagas in its journal.
	if _, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).
		GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("reading %s after the crash: %w", name, err)
	}
	back := event{time.Now(), fmt.Sprintf("✓ it is back (process %d), with its journal", orchestrator.PID())}
	again := d.apply(ctx, request, grpc.WaitForReady(true))
	saga, err := d.follow(ctx, again, treatyv1.SagaState_SAGA_STATE_SUCCEEDED, killed, back)
	if err != nil {
		return err
	}
	d.check(status.Code(told.err) == codes.Unavailable && again.saga() == name,
		fmt.Sprintf("the caller received %s, called again with the same request id, and was attached to the same saga",
			codeName(told.err)))
	row, found, err := d.company.Attempted(ctx, company.Identity, command, audit.Action)
	if err != nil {
		return err
	}
	d.check(found && row.Verdict == audit.Executed && len(saga.GetSteps()) > 1 &&
		saga.GetSteps()[1].GetName() == command,
		fmt.Sprintf("steps/%s was sent again with the same command id, and took effect once", wire.StepPath(command)))
	return d.hasCard(ctx, katherine)
}

// untilIdentity waits until a saga's command to the identity service is in flight. It returns the saga's name and the
// command's id.
func (d *demo) untilIdentity(ctx context.Context, definition string) (name, command string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	client := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator))
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		open, err := client.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 1,
			Filter: `state = "RUNNING" AND definition = "` + definition + `"`})
		if err != nil {
			return "", "", fmt.Errorf("looking for the running saga: %w", err)
		}
		for _, listed := range open.GetSagas() {
			saga, err := client.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
			if err != nil {
				return "", "", fmt.Errorf("looking for the running saga: %w", err)
			}
			for _, step := range saga.GetSteps() {
				if participant, _ := names(step.GetMethod()); participant == company.Identity &&
					step.GetAttempts().GetCount() > 0 && step.GetEndTime() == nil {
					return saga.GetName(), step.GetName(), nil
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", "", fmt.Errorf("waiting for a command to the identity service: %w", context.Cause(ctx))
		}
	}
}

// codeName returns the error's code as people write it, for example UNAVAILABLE.
func codeName(err error) string {
	return strings.ToUpper(status.Code(err).String())
}
