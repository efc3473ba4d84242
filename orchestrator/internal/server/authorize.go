package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// errRevoked is the cause of the end of a call whose caller was allowed to make it and no longer is.
var errRevoked = errors.New("the caller is no longer allowed to make this call")

// question is a call whose caller may have to be allowed to make it.
type question struct {
	server  *Server
	ctx     context.Context //nolint:containedctx // that of the call
	method  string
	request any
}

// rule asks whether a call is allowed. It returns the error of the call if it isn't.
type rule func(q question) error

// rules returns what each method of the API asks, by full name. A method that isn't among them isn't served.
func (s *Server) rules() map[string]rule {
	rules := map[string]rule{
		treatyv1.SagaService_CreateSaga_FullMethodName:         question.create,
		treatyv1.SagaService_GetSaga_FullMethodName:            about(access.Read),
		treatyv1.SagaService_WaitSaga_FullMethodName:           about(access.Read),
		treatyv1.SagaService_WatchSaga_FullMethodName:          about(access.Read),
		treatyv1.SagaService_ListSagaRecords_FullMethodName:    about(access.Read),
		treatyv1.SagaService_ListSagas_FullMethodName:          inHandler,
		treatyv1.SagaService_CancelSaga_FullMethodName:         about(access.Cancel),
		treatyv1.SagaService_ResumeSaga_FullMethodName:         about(access.Resume),
		treatyv1.SagaService_PurgeSaga_FullMethodName:          about(access.Administer),
		treatyv1.SagaService_ListLostSagas_FullMethodName:      about(access.Read),
		treatyv1.SagaService_ListParticipants_FullMethodName:   about(access.Read),
		treatyv1.SagaService_DeleteLostSaga_FullMethodName:     about(access.Administer),
		treatyv1.SagaService_CompleteStep_FullMethodName:       inHandler,
		treatyv1.SagaService_HeartbeatStep_FullMethodName:      inHandler,
		treatyv1.EventService_PublishEvents_FullMethodName:     question.publish,
		treatyv1.EventService_StreamEvents_FullMethodName:      question.consume,
		treatyv1.EventService_AcknowledgeEvents_FullMethodName: question.consume,

		treatyv1.ParticipantService_Describe_FullMethodName:       inHandler,
		treatyv1.ParticipantService_ListCommands_FullMethodName:   inHandler,
		treatyv1.ParticipantService_CloseCommand_FullMethodName:   inHandler,
		treatyv1.ParticipantService_StreamCommands_FullMethodName: inHandler,
	}
	for _, d := range s.definitions {
		rules["/"+d.Definition] = func(q question) error { return q.start(d) }
		if d.Compensation != nil {
			rules["/"+d.Compensation.Method] = func(q question) error { return q.undo(d) }
		}
	}
	for service, info := range s.grpc.GetServiceInfo() {
		for _, method := range info.Methods {
			switch {
			case strings.HasPrefix(service, "grpc.health."), strings.HasPrefix(service, "grpc.reflection."):
				rules["/"+service+"/"+method.Name] = nil // everybody may
			case strings.HasPrefix(service, "grpc.channelz."):
				rules["/"+service+"/"+method.Name] = about(access.Administer)
			}
		}
	}
	return rules
}

// checkRules returns an error that names each served method without a rule.
func (s *Server) checkRules() error {
	var missing []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, method := range info.Methods {
			if _, known := s.asks["/"+service+"/"+method.Name]; !known {
				missing = append(missing, service+"/"+method.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("no rule says who may call %s", strings.Join(missing, ", "))
}

// authorize returns an error if the caller may not make a call.
func (s *Server) authorize(ctx context.Context, method string, request any) error {
	ask := s.asks["/"+method]
	if ask == nil {
		return nil // for everybody, or unknown to the server
	}
	return ask(question{server: s, ctx: ctx, method: method, request: request})
}

// guarded returns whether it is of use to ask anything.
func (s *Server) guarded() bool { return s.authorizer != nil || s.audit != nil }

// inHandler is the rule of a method whose handler asks, since it has to know the saga or its caller anyway:
// see stepOf, checkParent and onlyReadable.
func inHandler(question) error { return nil }

// ask asks for one action. The error is the one that the caller receives.
func (q question) ask(request access.Request) error { return q.decide(request, nil) }

// decide is ask for an action that may be refused for a reason that needs no policy: structural is then the error for
// the caller.
func (q question) decide(request access.Request, structural error) error {
	reason := q.refusal(request)
	err := structural
	if reason != nil {
		err = q.refused(request, reason)
	} else {
		reason = structural
	}
	if q.server.audit != nil {
		request.Principal = access.PrincipalOf(q.ctx)
		q.server.audit.Decided(q.ctx, q.method, request, reason)
	}
	return err
}

// refusal returns why an action isn't allowed, or nil.
func (q question) refusal(request access.Request) error {
	if q.server.authorizer == nil {
		return nil
	}
	request.Principal = access.PrincipalOf(q.ctx)
	return q.server.authorizer.Authorize(q.ctx, request)
}

// refused logs that an action isn't allowed, and returns the error for the caller. It is the same whether what the
// request is about exists or not, and doesn't say why.
func (q question) refused(request access.Request, reason error) error {
	who := access.PrincipalOf(q.ctx).String()
	if q.server.firstTime("refused " + who + " " + string(request.Action) + " " + reason.Error()) {
		q.server.logger.WarnContext(q.ctx, "a call was refused", "method", q.method, "principal", who,
			"action", string(request.Action), "reason", reason)
	}
	return &apiError{
		code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED,
		message: fmt.Sprintf("the caller, %s, isn't allowed to do this: it lacks the action %q on what the call is "+
			"about, whether that exists or not; those who run the orchestrator find the reason in its log", who,
			request.Action),
	}
}

// about returns the rule of a method about one saga, or about all of them.
func about(action access.Action) rule {
	return func(q question) error {
		if !q.server.guarded() {
			return nil
		}
		saga := q.server.subjectOfRequest(q.method, q.request)
		request := access.Request{Action: action, Saga: saga.sagaName()}
		if saga.saga != "" {
			request.Definition = q.definitionOf(saga.saga)
		}
		return q.ask(request)
	}
}

// definitionOf returns the definition of a saga, or an empty text if there is no such saga. Then only those who may do
// the same with every saga learn that.
func (q question) definitionOf(id string) string {
	saga, err := q.server.engine.Get(q.ctx, id)
	if err != nil {
		return ""
	}
	return saga.GetDefinition()
}

func (q question) create() error {
	if !q.server.guarded() {
		return nil
	}
	request, _ := q.request.(*treatyv1.CreateSagaRequest)
	definition := untrusted.Shorten(strings.TrimPrefix(request.GetDefinition(), "/"))
	return q.ask(access.Request{Action: access.Start, Definition: definition})
}

// start is the rule of a saga's own method, unless the call is made for a step of another saga.
func (q question) start(d *definition) error {
	if !q.server.guarded() {
		return nil
	}
	if md, _ := metadata.FromIncomingContext(q.ctx); incoming.HasCommandKey(md) {
		return nil // checkParent asks
	}
	return q.ask(access.Request{Action: access.Start, Definition: d.Definition})
}

// undo is the rule of the method that compensates a child saga.
func (q question) undo(d *definition) error {
	if !q.server.guarded() {
		return nil
	}
	if md, _ := metadata.FromIncomingContext(q.ctx); incoming.HasCommandKey(md) {
		return nil // checkParent asks
	}
	return q.server.checkParent(q.ctx, q.method, d)
}

// readable returns the definitions whose sagas the caller may read, sorted, or nil for all sagas. It returns an error
// if there are none.
func (q question) readable() ([]string, error) {
	all := access.Request{Action: access.Read}
	if q.refusal(all) == nil {
		return nil, nil
	}
	readable := q.allowed(access.Read)
	if len(readable) == 0 {
		return nil, q.ask(all)
	}
	return readable, nil
}

// allowed returns the definitions for which an action is allowed, sorted.
func (q question) allowed(action access.Action) (allowed []string) {
	for saga := range q.server.catalog.SagaDefinitions() {
		if q.refusal(access.Request{Action: action, Definition: saga.Definition}) == nil {
			allowed = append(allowed, saga.Definition)
		}
	}
	slices.Sort(allowed)
	return allowed
}

// publish asks for each type and source once.
func (q question) publish() error {
	if !q.server.guarded() {
		return nil
	}
	given, _ := q.request.(*treatyv1.PublishEventsRequest)
	type origin struct{ eventType, source string }
	origins := make(map[origin]bool, 1)
	for _, event := range given.GetEvents() {
		name := string(event.GetData().MessageName())
		origins[origin{untrusted.Shorten(name), untrusted.Shorten(event.GetSource())}] = true
	}
	if len(origins) == 0 {
		origins[origin{}] = true
	}
	for origin := range origins {
		if err := q.ask(access.Request{
			Action: access.Publish, EventType: origin.eventType, Source: origin.source,
		}); err != nil {
			return err
		}
	}
	return nil
}

// consume asks for each type that a consumer wants, or for all types. An acknowledgement names no type.
func (q question) consume() error {
	if !q.server.guarded() {
		return nil
	}
	var request access.Request
	var types []string
	switch given := q.request.(type) {
	case *treatyv1.StreamEventsRequest:
		request.Consumer = given.GetConsumer()
		if types = given.GetTypes(); len(types) > maxEventTypes {
			types = nil
		}
		if len(types) == 0 {
			for event := range q.server.catalog.EventTypes() {
				types = append(types, string(event.Type))
			}
		}
	case *treatyv1.AcknowledgeEventsRequest:
		request.Consumer = given.GetConsumer()
	}
	request.Action, request.Consumer = access.Consume, untrusted.Shorten(request.Consumer)
	if len(types) == 0 {
		return q.ask(request)
	}
	for _, name := range types {
		request.EventType = untrusted.Shorten(name)
		if err := q.ask(request); err != nil {
			return err
		}
	}
	return nil
}

// lasting returns whether a call of a method may go on for long, so that its caller is asked for again.
func lasting(method string) bool {
	switch "/" + method {
	case treatyv1.SagaService_WaitSaga_FullMethodName, treatyv1.SagaService_WatchSaga_FullMethodName,
		treatyv1.EventService_StreamEvents_FullMethodName:
		return true
	}
	return false
}

// admit authorizes a call and watches over it. The returned context ends with errRevoked when a lasting call isn't
// allowed any more, or when its caller's token is no longer valid. The returned function ends the watch, and returns
// the error of a call that was revoked.
func (s *Server) admit(
	ctx context.Context, method string, request any,
) (admitted context.Context, end func() error, err error) {
	var changed <-chan struct{}
	if s.authorizer != nil && lasting(method) {
		changed = s.authorizer.Changed() // before the question, so that no change is missed in between
	}
	byToken := lasting(method) && access.PrincipalOf(ctx).Kind == access.JWT
	if err := s.authorize(ctx, method, request); err != nil || changed == nil && !byToken {
		return ctx, notRevoked, err
	}
	admitted, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		var tick <-chan time.Time // nil for callers whose connection ends when they are no longer believed
		if byToken {
			ticker := time.NewTicker(s.tokenCheck)
			defer ticker.Stop()
			tick = ticker.C
		}
		for {
			ask := false
			select {
			case <-changed:
				changed, ask = s.authorizer.Changed(), true
			case <-tick:
			case <-admitted.Done():
				ended <- nil
				return
			}
			known, err := s.authenticate(ctx, method)
			if err == nil && ask {
				err = s.authorize(known, method, request)
			}
			if err != nil {
				cancel(errRevoked)
				ended <- err
				return
			}
		}
	}()
	return admitted, func() error { cancel(nil); return <-ended }, nil
}

// notRevoked is the end of a call that isn't watched over.
func notRevoked() error { return nil }
