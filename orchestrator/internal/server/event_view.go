package server

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eventView is what the caller of a stream sees of events. It keeps what the authorizer has decided until that may no
// longer hold. Its zero value is ready to use. Only one goroutine may use it.
type eventView struct {
	may     map[string]bool // read the secrets of events, by type
	changed <-chan struct{} // closed when that may no longer hold
}

// show returns an event as the caller may see it. Without an authorizer, everybody sees everything.
func (v *eventView) show(ctx context.Context, s *Server, event *journal.Event) *treatyv1.PublishedEvent {
	shown := publishedOf(event)
	if s.guarded() && !v.maySeeSecrets(ctx, s, event.Type) {
		redactEvent(s.catalog, shown)
	}
	return shown
}

func (v *eventView) maySeeSecrets(ctx context.Context, s *Server, eventType string) bool {
	select {
	case <-v.changed:
		v.may = nil
	default:
	}
	if v.may == nil {
		v.may, v.changed = make(map[string]bool), s.authorizer.Changed() // before it is asked
	}
	may, decided := v.may[eventType]
	if !decided {
		q := question{server: s, ctx: ctx, method: treatyv1.EventService_StreamEvents_FullMethodName}
		may = q.refusal(access.Request{Action: access.ReadSecrets, EventType: eventType}) == nil
		v.may[eventType] = may
	}
	return may
}

// redactEvent redacts the data of an event, as contract.Redact does it, for callers who may not read what contracts
// mark with debug_redact. The correlation key is shown, since a contract can't mark that. An event whose contract isn't
// linked loses its data.
func redactEvent(catalog *contract.Catalog, event *treatyv1.PublishedEvent) {
	known, is := catalog.EventType(event.GetType())
	if !is {
		event.Data = nil
		return
	}
	event.Data.Value = redactPayload(known.Message, event.GetData().GetValue())
}
