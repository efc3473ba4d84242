package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestBetween(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	asleep := func(d time.Duration) *treatyv1.Record {
		return &treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{Wait: "1",
			Due: timestamppb.New(begin.Add(d))}}}
	}
	ended := func(how *treatyv1.WaitEnded) *treatyv1.Record {
		return &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: how}}
	}
	scopeFailed := func(decided *treatyv1.ScopeCompensationDecided) *treatyv1.Record {
		return &treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{ScopeCompensationDecided: decided}}
	}
	awaits := &treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{Wait: "2",
		Events: []*treatyv1.EventKey{
			{Type: "acme.identity.v1.ApplicantVerified", Subject: "applicants/1"},
			{Type: "acme.identity.v1.ApplicantTurnedDown", Subject: "applicants/1"},
		}}}}
	for _, test := range []struct {
		name    string
		records []*treatyv1.Record
		want    []string
	}{
		{
			"a step", []*treatyv1.Record{
				{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{Step: "1"}}},
			}, nil,
		},
		{
			"a sleep",
			[]*treatyv1.Record{asleep(time.Second),
				ended(&treatyv1.WaitEnded{Wait: "1", How: &treatyv1.WaitEnded_Due_{}})},
			[]string{"☾ sleeps for 1000 ms"},
		},
		{"a sleep for no time", []*treatyv1.Record{asleep(0)}, nil},
		{
			"an event",
			[]*treatyv1.Record{awaits, ended(&treatyv1.WaitEnded{Wait: "2",
				How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Index: 1, Source: "register"}}})},
			[]string{"… awaits ApplicantVerified or ApplicantTurnedDown",
				"✉ received ApplicantTurnedDown from the register"},
		},
		{
			"an event of an unknown wait",
			[]*treatyv1.Record{ended(&treatyv1.WaitEnded{Wait: "9",
				How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Source: "register"}}})},
			[]string{"✉ received the event from the register"},
		},
		{
			"a scope", []*treatyv1.Record{scopeFailed(&treatyv1.ScopeCompensationDecided{Scope: "2.1"})},
			[]string{"↩ scope 2.1 failed: its steps are compensated, and the saga continues"},
		},
		{
			"a scope whose deadline passes",
			[]*treatyv1.Record{scopeFailed(&treatyv1.ScopeCompensationDecided{
				Scope: "2.1", Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
			})},
			[]string{"↩ scope 2.1 has run out of time: its steps are compensated, and the saga continues"},
		},
		{
			"a round of a change",
			[]*treatyv1.Record{
				{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: &treatyv1.SagaRestarted{Round: 2}}},
				{Kind: &treatyv1.Record_VersionChosen{VersionChosen: &treatyv1.VersionChosen{Change: "tell the limit",
					Version: 1}}},
			},
			[]string{"↻ round 2 starts; the journal of the earlier rounds is no longer needed",
				`⎇ uses version 1 of the change "tell the limit"`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var records []*treatyv1.SagaRecord
			for _, r := range test.records {
				records = append(records, &treatyv1.SagaRecord{Time: timestamppb.New(begin), Record: r})
			}
			var got []string
			for _, e := range between(records) {
				got = append(got, e.text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}
