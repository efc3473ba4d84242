package machine

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// restart ends a round and starts the next one. Steps of the round that are in doubt are compensated first. The
// new round starts with its own turn, so records of the old round are committed first.
func (m *Machine) restart() bool {
	if rule := m.checkRestart(); rule != "" {
		m.suspendForRule("", "the restart", rule, "")
		return false
	}
	switch {
	case m.compensateNext(inDoubt):
		return false
	case m.turn != nil:
		m.again = true
		return false
	}
	restarted := m.restartRecord(m.program.restart.request)
	restored := m.saga.restoredForNextRound()
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: restarted}})
	if restored != nil {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaRestored{SagaRestored: restored}})
	}
	m.newRound = true
	return true
}

// checkRestart returns the rule that a restart breaks, or nothing.
func (m *Machine) checkRestart() string {
	switch size := len(m.program.restart.request); {
	case m.saga.Started.GetParent().GetKind() == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		return "the saga's parent may compensate it, but the rounds before a restart can't be compensated; " +
			"end the saga instead, or give its definition another kind"
	case len(m.saga.Steps)+m.saga.unstepped == 0:
		return "the round had no step and no wait, so the saga would restart forever; " +
			"add one to each round, e.g. saga.Sleep"
	case size > MaxPayloadBytes:
		return fmt.Sprintf("its request has %d bytes; at most %d are allowed; "+
			"store the data elsewhere and pass a reference", size, MaxPayloadBytes)
	}
	return ""
}

func (m *Machine) restartRecord(request []byte) *treatyv1.SagaRestarted {
	old := m.saga.Started
	next := &treatyv1.SagaStarted{
		Definition: old.GetDefinition(), Request: request, RequestId: old.GetRequestId(), Seed: nextSeed(old.GetSeed()),
		Labels: old.GetLabels(), Trace: old.GetTrace(), Parent: old.GetParent(),
		Principal: old.GetPrincipal(),
	}
	if allowed := m.saga.allowed(); allowed > 0 {
		next.Deadline = timestamppb.New(m.now.Add(allowed))
	}
	restarted := &treatyv1.SagaRestarted{
		Started: next, Round: m.saga.Round + 1, CreateTime: timestamppb.New(m.saga.CreateTime),
		Progress: m.saga.Progress, RoundTime: timestamppb.New(m.now), FirstRequest: m.saga.FirstRequest,
	}
	for key, position := range m.saga.taken {
		restarted.EventsTaken = append(restarted.EventsTaken, &treatyv1.EventTaken{
			Key: &treatyv1.EventKey{Type: key.typ, Subject: key.subject}, Position: position,
		})
	}
	slices.SortFunc(restarted.EventsTaken, func(a, b *treatyv1.EventTaken) int {
		return strings.Compare(sortKey(a.GetKey()), sortKey(b.GetKey()))
	})
	return restarted
}

func sortKey(key *treatyv1.EventKey) string { return key.GetType() + "\x00" + key.GetSubject() }

// nextSeed returns the seed of the next round: a different one, and the same in every replay.
func nextSeed(seed uint64) uint64 { return seed*6364136223846793005 + 1442695040888963407 }
