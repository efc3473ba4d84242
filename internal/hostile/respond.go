package hostile

import (
	"slices"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// never is the place of the upstream's answer: it is passed on to its end.
const never Place = -1

// respond gives the client what the plan says.
func (s *stream) respond() {
	defer s.over()
	answer := s.plan.Answer
	if answer.kind == upstreams {
		if pause(s.ctx, answer.until, answer.delay) {
			s.relay(never)
		}
		return
	}
	if s.reach() && pause(s.ctx, answer.until, answer.delay) {
		s.strike()
	}
}

// reach waits until the place of the plan is reached. It returns false if the client is gone.
func (s *stream) reach() bool {
	switch s.plan.At {
	case AfterAnswer, AfterHeaders, BeforeTrailers:
		return s.relay(s.plan.At)
	case AfterRequest:
		return s.wait(s.deliveries[0].sent)
	case BeforeRequest:
	default:
	}
	return len(s.deliveries) == 0 || s.wait(s.whole)
}

func (s *stream) wait(signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// relay passes the upstream's answer on up to a place. It returns false if there is nothing more to do for the client:
// the whole answer was passed on, or the client is gone.
func (s *stream) relay(until Place) bool {
	passes := until != AfterAnswer && s.plan.Answer.kind != ownHTTP
	for {
		e, ok := s.answer.next(s.ctx)
		switch {
		case !ok:
			return false
		case until == never:
			if s.pass(e); e.last() {
				return false
			}
		case e.last():
			if passes && e.kind == dataEvent {
				s.data(e.data, false)
				e.data = nil
			}
			s.withheld = append(s.withheld, e)
			return true
		default:
			if passes {
				s.pass(e)
			} else {
				s.withheld = append(s.withheld, e)
			}
			if until == AfterHeaders && e.kind == headersEvent {
				return true
			}
		}
	}
}

// pass passes a part of the upstream's answer on.
func (s *stream) pass(e event) {
	switch e.kind {
	case headersEvent:
		if e.end {
			s.passTrailers(e.fields)
			return
		}
		s.headers(without(e.fields, s.plan.Answer.dropHeaders), false)
	case dataEvent:
		s.passData(e)
	case resetEvent:
		s.giveReset(e.code)
	case lostEvent:
		s.end(Closed, func(*Record) {})
		s.conn.close()
	}
}

// passTrailers passes the end of the upstream's answer on. Without headers before, the trailers contain them.
func (s *stream) passTrailers(fields []hpack.HeaderField) {
	answer := s.plan.Answer
	s.repeat()
	kept := without(fields, answer.dropTrailers)
	if answer.keepStatusOnly || answer.noTrailers {
		kept = slices.DeleteFunc(kept, func(f hpack.HeaderField) bool {
			status := f.Name == grpcStatus || f.Name == grpcMessage
			return !f.IsPseudo() && f.Name != typeField && (answer.noTrailers || !status)
		})
	}
	if s.headersSent && len(kept) == 0 {
		s.end(Answered, func(*Record) {})
		s.data(nil, true)
		return
	}
	s.headers(kept, true)
}

// passData passes a part of the upstream's messages on.
func (s *stream) passData(e event) {
	data := e.data
	if s.plan.Answer.noMessage {
		data = nil
	}
	if s.plan.Answer.twoMessages {
		s.repeated = append(s.repeated, data...)
	}
	if !e.end {
		s.data(data, false)
		return
	}
	s.end(Answered, func(*Record) {})
	if len(s.repeated) > 0 {
		s.data(data, false)
		s.repeat()
		data = nil
	}
	s.data(data, true)
}

// repeat sends the messages that are to be repeated.
func (s *stream) repeat() {
	if len(s.repeated) > 0 {
		s.data(s.repeated, false)
		s.repeated = nil
	}
}

// data sends a part of a message, or the end of the stream.
func (s *stream) data(data []byte, end bool) {
	s.conn.sendData(s.ctx, s.id, data, end)
}

// headers sends headers, or trailers at the end.
func (s *stream) headers(fields []hpack.HeaderField, end bool) {
	s.headersSent = true
	s.update(func(r *Record) {
		if status := value(fields, statusField); status != "" {
			r.HTTPStatus = status
		}
		if status := value(fields, grpcStatus); status != "" {
			r.GRPCStatus = status
		}
	})
	if end {
		s.end(Answered, func(*Record) {})
	}
	s.conn.sendHeaders(s.id, fields, end)
}

// strike gives the client an answer that isn't the upstream's.
func (s *stream) strike() {
	answer := s.plan.Answer
	if !answer.goesOn() {
		s.struck.Store(true)
	}
	if answer.kind == halfOpen {
		s.conn.freeze()
	}
	s.update(func(r *Record) { r.Struck = r.Ending == Pending })
	switch answer.kind {
	case ownStatus:
		s.giveStatus()
	case ownHTTP:
		s.headers([]hpack.HeaderField{
			{Name: statusField, Value: strconv.Itoa(answer.httpStatus)}, {Name: typeField, Value: answer.contentType},
			{Name: "content-length", Value: strconv.Itoa(len(answer.body))},
		}, false)
		s.end(Answered, func(*Record) {})
		s.data([]byte(answer.body), true)
	case reset:
		s.giveReset(answer.errCode)
	case goAway:
		s.giveGoAway()
	case closing:
		s.end(Closed, func(*Record) {})
		s.conn.close()
	case stall:
		if answer.bound <= 0 {
			<-s.ctx.Done()
		} else if pause(s.ctx, nil, answer.bound) {
			s.giveReset(http2.ErrCodeCancel)
		}
	case halfOpen:
		// The call may end before: the connection stays as it is until its own time is over.
		if answer.bound <= 0 {
			<-s.conn.ctx.Done()
		} else if pause(s.conn.ctx, nil, answer.bound) {
			s.end(Closed, func(*Record) {})
			s.conn.cut.Store(true)
			s.conn.hangUp()
		}
	case upstreams:
	}
}

func (s *stream) giveReset(code http2.ErrCode) {
	s.end(WasReset, func(r *Record) { r.ErrCode = code })
	s.conn.sendReset(s.id, code)
}

func (s *stream) giveStatus() {
	answer := s.plan.Answer
	trailers := append(statusFields(answer.code, answer.message), metadataFields(answer.trailers)...)
	switch {
	case s.headersSent:
	case len(answer.headers) > 0:
		s.headers(append(grpcHeaders(), metadataFields(answer.headers)...), false)
	default:
		trailers = append(grpcHeaders(), trailers...)
	}
	s.headers(trailers, true)
}

func (s *stream) giveGoAway() {
	answer := s.plan.Answer
	if answer.below {
		s.conn.disown(max(s.id, 2)-2, answer.errCode, nil, true)
		return
	}
	s.conn.disown(s.id, answer.errCode, nil, true)
	for _, e := range s.withheld {
		if s.pass(e); e.last() {
			return
		}
	}
	if len(s.deliveries) == 0 {
		<-s.ctx.Done()
		return
	}
	s.relay(never)
}
