package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headerTable is the size of the HPACK table that every peer starts with.
const headerTable = 4096

// errHungUp ends a side's writing after its last frame.
var errHungUp = errors.New("the middle closed the connection")

// handler gets the frames that a side reads, one at a time. Its methods must not block. Slices are its own.
type handler interface {
	headers(stream uint32, fields []hpack.HeaderField, end bool)
	data(stream uint32, data []byte, end bool)
	reset(stream uint32, code http2.ErrCode)
	settings(settings []http2.Setting)
	ping(ack bool, data [8]byte)
	goAway(last uint32, code http2.ErrCode, debug []byte)
}

// side is an HTTP/2 connection of the middle, with the client or with the upstream. It reads without limit, and does
// flow control and header compression. Frames are queued and written by one goroutine, so only data, which waits for
// the peer's windows, blocks the sender.
type side struct {
	// ctx ends with the connection.
	ctx context.Context

	hangUp  func()
	conn    net.Conn
	framer  *http2.Framer
	buffer  *bufio.Writer
	block   bytes.Buffer
	encoder *hpack.Encoder
	windows *windows
	frames  *queue[func() error]

	// fed says that headers or data were written since it was set to false.
	fed atomic.Bool

	// deaf says that nothing more is read, and mute that nothing more is written.
	deaf, mute atomic.Bool
}

// newSide takes over a connection. The connection is closed when ctx ends, or by hangUp.
func newSide(ctx context.Context, conn net.Conn) *side {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	s := &side{ctx: ctx, hangUp: cancel, conn: conn, buffer: bufio.NewWriter(conn), windows: newWindows(),
		frames: newQueue[func() error]()}
	s.framer = http2.NewFramer(s.buffer, conn)
	s.framer.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	s.encoder = hpack.NewEncoder(&s.block)
	return s
}

// greet queues the first frames of a connection: the settings, and the largest window.
func (s *side) greet(settings ...http2.Setting) {
	window := http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}
	s.sendSettings(append([]http2.Setting{window}, settings...)...)
	s.sendWindow(0, maxWindow-defaultWindow)
}

// write writes queued frames until the connection ends.
func (s *side) write() {
	defer s.hangUp()
	for {
		frame, ok := s.frames.next(s.ctx)
		if !ok {
			return
		}
		if s.mute.Load() {
			continue
		}
		if frame() != nil {
			return
		}
		if s.frames.empty() && s.buffer.Flush() != nil {
			return
		}
	}
}

// read reads frames until the connection ends.
func (s *side) read(h handler) {
	defer s.hangUp()
	for {
		frame, err := s.framer.ReadFrame()
		var bad http2.StreamError
		switch {
		case errors.As(err, &bad):
			s.sendReset(bad.StreamID, bad.Code)
			h.reset(bad.StreamID, bad.Code)
		case err != nil:
			return
		case s.deaf.Load():
			_, _ = io.Copy(io.Discard, s.conn)
			return
		default:
			s.handle(frame, h)
		}
	}
}

func (s *side) handle(frame http2.Frame, h handler) {
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		h.headers(frame.StreamID, frame.Fields, frame.StreamEnded())
	case *http2.DataFrame:
		if frame.Length > 0 {
			s.sendWindow(0, frame.Length)
			if !frame.StreamEnded() {
				s.sendWindow(frame.StreamID, frame.Length)
			}
		}
		h.data(frame.StreamID, bytes.Clone(frame.Data()), frame.StreamEnded())
	case *http2.RSTStreamFrame:
		h.reset(frame.StreamID, frame.ErrCode)
	case *http2.WindowUpdateFrame:
		s.windows.add(frame.StreamID, int64(frame.Increment))
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			h.settings(s.apply(frame))
		}
	case *http2.PingFrame:
		h.ping(frame.IsAck(), frame.Data)
	case *http2.GoAwayFrame:
		h.goAway(frame.LastStreamID, frame.ErrCode, bytes.Clone(frame.DebugData()))
	}
}

// apply obeys the peer's settings and returns them.
func (s *side) apply(frame *http2.SettingsFrame) []http2.Setting {
	var settings []http2.Setting
	for i := range frame.NumSettings() {
		setting := frame.Setting(i)
		settings = append(settings, setting)
		switch setting.ID {
		case http2.SettingInitialWindowSize:
			s.windows.setInitial(int64(setting.Val))
		case http2.SettingHeaderTableSize:
			s.frames.push(func() error {
				s.encoder.SetMaxDynamicTableSizeLimit(min(setting.Val, headerTable))
				return nil
			})
		}
	}
	s.frames.push(s.framer.WriteSettingsAck)
	return settings
}

// sendHeaders queues headers or trailers.
func (s *side) sendHeaders(stream uint32, fields []hpack.HeaderField, end bool) {
	s.frames.push(func() error {
		s.fed.Store(true)
		s.block.Reset()
		for _, field := range fields {
			if err := s.encoder.WriteField(field); err != nil {
				return err
			}
		}
		part := s.block.Next(maxFrame)
		err := s.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: part, EndStream: end, EndHeaders: s.block.Len() == 0,
		})
		for err == nil && s.block.Len() > 0 {
			part = s.block.Next(maxFrame)
			err = s.framer.WriteContinuation(stream, s.block.Len() == 0, part)
		}
		return err
	})
}

// sendData queues data as the peer's windows allow. It returns false if the stream is shut or ctx ends first.
func (s *side) sendData(ctx context.Context, stream uint32, data []byte, end bool) bool {
	for {
		n, ok := s.windows.take(ctx, stream, min(len(data), maxFrame))
		if !ok {
			return false
		}
		part := data[:n]
		data = data[n:]
		last := len(data) == 0
		s.frames.push(func() error {
			s.fed.Store(true)
			return s.framer.WriteData(stream, end && last, part)
		})
		if last {
			return true
		}
	}
}

func (s *side) sendReset(stream uint32, code http2.ErrCode) {
	s.frames.push(func() error { return s.framer.WriteRSTStream(stream, code) })
}

func (s *side) sendSettings(settings ...http2.Setting) {
	s.frames.push(func() error { return s.framer.WriteSettings(settings...) })
}

func (s *side) sendWindow(stream, n uint32) {
	s.frames.push(func() error { return s.framer.WriteWindowUpdate(stream, n) })
}

func (s *side) sendPing(ack bool, data [8]byte) {
	s.frames.push(func() error { return s.framer.WritePing(ack, data) })
}

func (s *side) sendGoAway(last uint32, code http2.ErrCode, debug []byte) {
	s.frames.push(func() error { return s.framer.WriteGoAway(last, code, debug) })
}

// hangUpSoon closes the connection after the frames that are queued.
func (s *side) hangUpSoon() {
	s.frames.push(func() error {
		_ = s.buffer.Flush()
		return errHungUp
	})
}

// freeze keeps the connection open, and passes nothing more in either direction, after the frames that are queued.
func (s *side) freeze() {
	s.deaf.Store(true)
	s.frames.push(func() error {
		err := s.buffer.Flush()
		s.mute.Store(true)
		return err
	})
}
