package machine

import (
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// eventReceived ends the first wait for the event, unless the saga has taken a later event with the same key.
func (m *Machine) eventReceived(in EventReceived) {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return
	}
	for _, wait := range m.saga.Waits {
		for i, key := range wait.Scheduled.GetEvents() {
			if !sameKey(key, in.Key) || in.Event.GetPosition() <= m.saga.Taken(key) {
				continue
			}
			arrived := &treatyv1.EventArrived{
				Index: int32(i), Position: in.Event.GetPosition(), Source: in.Event.GetSource(),
				Id:   in.Event.GetId(),
				Time: in.Event.GetTime(), Data: in.Event.GetData(),
			}
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
				Wait: wait.Scheduled.GetWait(), How: &treatyv1.WaitEnded_Event{Event: arrived},
			}}})
			m.proceed()
			return
		}
	}
}

// discovered schedules a broadcast to its participants.
func (m *Machine) discovered(in Discovered) {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || m.program == nil {
		return
	}
	t := m.program.unscheduled(in.Path)
	if t == nil {
		return
	}
	op, is := t.op.(*Broadcast)
	if !is {
		return
	}
	scheduled := &treatyv1.BroadcastScheduled{Broadcast: in.Path, Method: op.Method, Participants: in.Participants}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{BroadcastScheduled: scheduled}})
	m.proceed()
}
