package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// records reads a saga's journal.
func (d *demo) records(ctx context.Context, saga string) (all []*treatyv1.SagaRecord, err error) {
	client := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator))
	request := &treatyv1.ListSagaRecordsRequest{Parent: saga, PageSize: 1000}
	for {
		page, err := client.ListSagaRecords(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("reading the journal of %s: %w", saga, err)
		}
		all = append(all, page.GetRecords()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

// between returns what a journal says about a saga apart from its steps: waits, failed scopes, versions and rounds.
func between(records []*treatyv1.SagaRecord) (events []event) {
	awaited := make(map[string]*treatyv1.WaitScheduled)
	for _, r := range records {
		text := ""
		switch record := r.GetRecord(); record.GetKind().(type) {
		case *treatyv1.Record_WaitScheduled:
			wait := record.GetWaitScheduled()
			awaited[wait.GetWait()] = wait
			text = "… " + waiting(wait.GetEvents())
			if len(wait.GetEvents()) == 0 {
				text = asleep(wait.GetDue().AsTime().Sub(r.GetTime().AsTime()))
			}
		case *treatyv1.Record_WaitEnded:
			text = arrival(awaited[record.GetWaitEnded().GetWait()], record.GetWaitEnded())
		case *treatyv1.Record_ScopeCompensationDecided:
			scope := record.GetScopeCompensationDecided()
			why := "failed"
			if scope.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE {
				why = "has run out of time"
			}
			text = fmt.Sprintf("↩ scope %s %s: its steps are compensated, and the saga continues", scope.GetScope(),
				why)
		case *treatyv1.Record_VersionChosen:
			version := record.GetVersionChosen()
			text = fmt.Sprintf("⎇ uses version %d of the change %q", version.GetVersion(), version.GetChange())
		case *treatyv1.Record_SagaRestarted:
			text = fmt.Sprintf("↻ round %d starts; the journal of the earlier rounds is no longer needed",
				record.GetSagaRestarted().GetRound())
		}
		if text != "" {
			events = append(events, event{r.GetTime().AsTime(), text})
		}
	}
	return events
}

// asleep describes a sleep. It returns "" if there is none.
func asleep(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return "☾ sleeps for " + short(d)
}

// waiting describes the awaited events.
func waiting(events []*treatyv1.EventKey) string {
	kinds := make([]string, len(events))
	for i, e := range events {
		kinds[i] = lastPart(e.GetType())
	}
	return "awaits " + strings.Join(kinds, " or ")
}

// arrival describes the event that ended a wait. It returns "" if there was none.
func arrival(wait *treatyv1.WaitScheduled, ended *treatyv1.WaitEnded) string {
	came := ended.GetEvent()
	if came == nil {
		return ""
	}
	name := "the event"
	if i := int(came.GetIndex()); i < len(wait.GetEvents()) {
		name = lastPart(wait.GetEvents()[i].GetType())
	}
	return fmt.Sprintf("✉ received %s from the %s", name, came.GetSource())
}

// lastPart returns a full name without its package.
func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
