package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	reflectiongrpc "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

const (
	// listTimeout limits the time of one request for a participant's services, maxListBytes the size of the answer.
	listTimeout  = 10 * time.Second
	maxListBytes = 1 << 20

	// initialListDelay and maxListDelay bound the wait before a participant is asked again after a failure. The wait
	// doubles with each failure.
	initialListDelay = 250 * time.Millisecond
	maxListDelay     = 30 * time.Second

	// listInterval is how often a participant is asked while its connection lasts. One name can stand for several
	// processes, and a quick reconnect can go unnoticed.
	listInterval = 5 * time.Minute
)

// serviceLister asks one participant for its services, again and again, until the discovery is closed.
type serviceLister struct {
	*discovery

	participant *participant

	// warned holds the warnings that were logged since the last answer.
	warned map[string]bool
}

func (l *serviceLister) run() {
	delay := initialListDelay
	unreachable := func() { l.warn("can't be reached", nil) }
	for awaitReady(l.ctx, l.participant.conn, unreachable) {
		services, err := l.list()
		if err == nil {
			l.setServices(l.participant.name, services)
			l.warned, delay = nil, initialListDelay
			waitWhileReady(l.ctx, l.participant.conn, listInterval)
			continue
		}
		l.explain(err)
		if !sleepJittered(l.ctx, delay, l.rand) {
			return
		}
		delay = min(2*delay, maxListDelay)
	}
}

// explain logs why the participant doesn't say what it serves.
func (l *serviceLister) explain(err error) {
	switch {
	case l.ctx.Err() != nil:
	case status.Code(err) == codes.Unimplemented:
		l.warn("doesn't say what it serves: enable gRPC server reflection (grpc.reflection.v1) there", err)
	case l.participant.conn.GetState() != connectivity.Ready:
		// The connection broke. The participant is asked on the next one.
	default:
		l.warn("failed to say what it serves by gRPC server reflection", err)
	}
}

// warn logs a warning, once until the participant answers.
func (l *serviceLister) warn(what string, err error) {
	if l.warned[what] {
		return
	}
	if l.warned == nil {
		l.warned = make(map[string]bool)
	}
	l.warned[what] = true
	consequence := "broadcasts wait until it answers"
	if l.hasAnswered(l.participant.name) {
		consequence = "broadcasts use its previous answer"
	}
	attributes := []slog.Attr{
		slog.String("participant", l.participant.name), slog.String("target", l.participant.target),
	}
	if err != nil {
		attributes = append(attributes, slog.Any("error", err))
	}
	l.logger.LogAttrs(l.ctx, slog.LevelWarn, "a participant "+what+"; "+consequence, attributes...)
}

// list asks the participant for its services, and returns them sorted and not nil.
func (l *serviceLister) list() (services []string, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, listTimeout)
	defer cancel()
	client := reflectiongrpc.NewServerReflectionClient(l.participant.conn)
	stream, err := client.ServerReflectionInfo(ctx, grpc.MaxCallRecvMsgSize(maxListBytes))
	if err != nil {
		return nil, err
	}
	request := &reflectiongrpc.ServerReflectionRequest{
		MessageRequest: &reflectiongrpc.ServerReflectionRequest_ListServices{ListServices: "*"},
	}
	// When Send fails with EOF, Recv returns the cause.
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	listed := response.GetListServicesResponse()
	if listed == nil {
		return nil, fmt.Errorf("the answer to a request for the services is an error with code %d: %.200q",
			response.GetErrorResponse().GetErrorCode(), response.GetErrorResponse().GetErrorMessage())
	}
	services = make([]string, 0, len(listed.GetService()))
	for _, s := range listed.GetService() {
		services = append(services, s.GetName())
	}
	slices.Sort(services)
	return slices.Compact(services), nil
}
