package conform_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/conform"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// mistake is one that the participant of these tests makes.
type mistake int

const (
	none mistake = iota
	noInbox
	noLock
	notDurable
	lateActionOK
	undoNotOnce
	undoNeedsReply
	nullUndoForgotten
	undoRefusedBefore
	undoDoesNothing
	effectOutside
	anyEpoch
	epochKept
	anyRequest
	anyMetadata
	noMarks
	wrongMark
	refusalSwallowed
	refusalUndeclared
	refusalHasEffect
	otherReply
	lateCompletion
	completedTwice
	everythingRefused
	metadataNeeded
	undoHangs
)

// key is a command in one direction.
type key struct{ id, direction string }

// row is what the inbox knows of it.
type row struct {
	digest  string
	pending bool
	answer  proto.Message
	refused error
}

// shop is a participant with an inbox of its own in memory, as one in another language has. It makes one mistake.
type shop struct {
	customerv1.UnimplementedCustomerServiceServer

	mistake  mistake
	accepts  bool // commands, to complete them later
	mu       sync.Mutex
	rows     map[key]*row
	epochs   map[string]uint64
	effects  map[string]int // by command id
	others   int
	replies  int64
	complete sync.WaitGroup
}

func newShop(m mistake) *shop {
	return &shop{mistake: m, rows: map[key]*row{}, epochs: map[string]uint64{}, effects: map[string]int{}}
}

func (s *shop) count(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.others
	for _, count := range s.effects {
		n += count
	}
	return n, nil
}

// reasoned makes an error with a reason of the protocol.
func reasoned(code codes.Code, reason, message string) error {
	s := status.New(code, message)
	if reason == "" {
		return s.Err()
	}
	detailed, err := s.WithDetails(&errdetails.ErrorInfo{Domain: wire.ErrorDomain, Reason: reason})
	if err != nil {
		return err
	}
	return detailed.Err()
}

func refuse(code codes.Code, reason, message string) error {
	return participant.Settle(reasoned(code, reason, message))
}

// handle is the inbox.
func (s *shop) handle(ctx context.Context, handler func(id string) (proto.Message, error)) (proto.Message, error) {
	c, inSaga := participant.FromContext(ctx)
	if !inSaga || s.mistake == noInbox {
		if s.mistake == metadataNeeded && !inSaga {
			return nil, status.Error(codes.Internal, "no command")
		}
		if s.mistake != noLock {
			s.mu.Lock()
			defer s.mu.Unlock()
		}
		return handler(c.CommandID)
	}
	if s.mistake != noLock {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if err := s.check(c); err != nil {
		return nil, err
	}
	at, other := key{c.CommandID, string(c.Direction)}, key{c.CommandID, wire.Compensation}
	known := s.row(at)
	switch undone := s.row(other) != nil; {
	case c.Direction == participant.Action && undone && s.mistake == lateActionOK && known == nil:
		return &customerv1.AddressChanged{}, nil
	case c.Direction == participant.Action && undone:
		return nil, refuse(codes.FailedPrecondition, "COMPENSATED_BEFORE", "was compensated")
	case known != nil && known.pending:
		return nil, participant.Pending(time.Second)
	case known != nil && known.refused != nil:
		return nil, participant.Settle(known.refused)
	case known != nil && (s.mistake != undoNotOnce || c.Direction == participant.Action):
		if s.mistake == otherReply && c.Direction == participant.Action {
			changed := proto.CloneOf(known.answer)
			changed.ProtoReflect().Set(changed.ProtoReflect().Descriptor().Fields().ByName("customer"),
				protoreflect.ValueOfString("another"))
			return changed, nil
		}
		return known.answer, nil
	}
	if c.Direction == participant.Compensation && !s.hasEffect(c.CommandID) {
		switch s.mistake {
		case undoRefusedBefore:
			return nil, refuse(codes.NotFound, "", "nothing to undo")
		case nullUndoForgotten:
		default:
			s.store(at, &row{digest: c.RequestDigest, answer: &customerv1.AddressRestored{}})
		}
		return &customerv1.AddressRestored{}, nil
	}
	answer, err := handler(c.CommandID)
	if s.mistake == effectOutside && c.Direction == participant.Action && c.Attempt == 1 {
		return nil, status.Error(codes.Unavailable, "the commit failed, and the effect stays")
	}
	if err != nil && !participant.IsRefusal(status.Code(err)) {
		return nil, err
	}
	r := &row{digest: c.RequestDigest, answer: answer, refused: err}
	if s.accepts && c.Direction == participant.Action && err == nil {
		r.pending = true
		s.effects[c.CommandID]--
		s.complete.Go(func() { s.finish(at) })
	}
	s.store(at, r)
	switch {
	case r.pending:
		return nil, participant.Pending(time.Second)
	case err != nil:
		return nil, participant.Settle(err)
	}
	return answer, nil
}

// finish completes an accepted command.
func (s *shop) finish(at key) {
	<-time.After(20 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, undone := s.rows[at], s.rows[key{at.id, wire.Compensation}] != nil
	if undone && s.mistake != lateCompletion {
		return
	}
	r.pending = false
	s.effects[at.id]++
	if s.mistake == completedTwice {
		s.effects[at.id]++
	}
}

// check looks at what a command carries.
func (s *shop) check(c participant.Command) error {
	if s.mistake != anyEpoch {
		var known uint64
		s.guard(func() { known = s.epochs[c.Scope] })
		ahead := uint64(time.Now().Add(24*time.Hour).UnixMilli()) << 20
		switch {
		case c.Epoch > ahead:
			if s.mistake == epochKept {
				s.epochs[c.Scope] = c.Epoch
			}
			return reasoned(codes.Unauthenticated, "EPOCH_AHEAD", "too far ahead")
		case c.Epoch < known:
			return reasoned(codes.Aborted, "STALE_EPOCH", "was replaced")
		}
		s.guard(func() { s.epochs[c.Scope] = c.Epoch })
	}
	for _, direction := range []string{wire.Action, wire.Compensation} {
		known := s.row(key{c.CommandID, direction})
		if known != nil && known.digest != c.RequestDigest && s.mistake != anyRequest {
			return reasoned(codes.Internal, "OTHER_REQUEST", "another request")
		}
	}
	return nil
}

// guard runs f under a lock of its own if the inbox has none.
func (s *shop) guard(f func()) {
	if s.mistake == noLock {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	f()
}

func (s *shop) row(at key) (r *row) {
	s.guard(func() { r = s.rows[at] })
	return r
}

func (s *shop) store(at key, r *row) { s.guard(func() { s.rows[at] = r }) }

func (s *shop) hasEffect(id string) bool {
	known := s.row(key{id, wire.Action})
	return known != nil && known.refused == nil
}

func (s *shop) ChangeAddress(
	ctx context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	answer, err := s.handle(ctx, func(id string) (proto.Message, error) {
		closed := r.GetCustomer() == "customers/closed"
		if closed && s.mistake != refusalSwallowed && s.mistake != refusalHasEffect {
			if s.mistake == refusalUndeclared {
				return nil, participant.Refuse(codes.FailedPrecondition, "taken", &customerv1.EmailTaken{})
			}
			return nil, participant.Refuse(codes.FailedPrecondition, "closed", &customerv1.CustomerClosed{})
		}
		if s.mistake == everythingRefused {
			return nil, status.Error(codes.InvalidArgument, "no")
		}
		if s.mistake == noLock {
			<-time.After(5 * time.Millisecond)
		}
		var revision int64
		s.guard(func() {
			if id == "" {
				s.others++
			} else {
				s.effects[id]++
			}
			s.replies++
			revision = s.replies
		})
		if closed && s.mistake == refusalHasEffect {
			return nil, participant.Refuse(codes.FailedPrecondition, "closed", &customerv1.CustomerClosed{})
		}
		return &customerv1.AddressChanged{Customer: r.GetCustomer(), AddressRevision: revision}, nil
	})
	if err != nil {
		return nil, err
	}
	return answer.(*customerv1.AddressChanged), nil
}

func (s *shop) RestoreAddress(
	ctx context.Context, r *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	if s.mistake == undoHangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	answer, err := s.handle(ctx, func(id string) (proto.Message, error) {
		known := s.row(key{id, wire.Action})
		switch {
		case s.mistake == undoDoesNothing, s.mistake == undoNeedsReply && r.GetReply() == nil:
		case known != nil && known.pending:
		default:
			s.guard(func() { s.effects[id]-- })
		}
		return &customerv1.AddressRestored{}, nil
	})
	if err != nil {
		return nil, err
	}
	return answer.(*customerv1.AddressRestored), nil
}

// interceptors are the library's, or one that marks no answers and leaves the epoch to the inbox.
func (s *shop) interceptors() []grpc.UnaryServerInterceptor {
	careless := func(
		ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		c, inSaga, err := participant.ParseMetadata(md)
		if err != nil && s.mistake != anyMetadata {
			return nil, reasoned(codes.InvalidArgument, "METADATA_INVALID", err.Error())
		}
		if err == nil && inSaga {
			ctx = participant.NewContext(ctx, c)
		}
		answer, err := handler(ctx, request)
		if _, pending := participant.IsPending(err); pending {
			return nil, status.Error(codes.Unimplemented, "no pending commands here")
		}
		if s.mistake == wrongMark && err != nil {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, wire.AnswerSettled))
		}
		return answer, err
	}
	switch s.mistake {
	case anyMetadata, noMarks, wrongMark, anyEpoch, epochKept:
		return []grpc.UnaryServerInterceptor{careless}
	default:
		return []grpc.UnaryServerInterceptor{participant.UnaryServerInterceptor(nil, participant.Trust{})}
	}
}

// serve serves the shop until the test ends.
func (s *shop) serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(s.interceptors()...),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			if s.mistake != noMarks {
				stream.SetTrailer(metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
			}
			return status.Error(codes.Unimplemented, "isn't served")
		}))
	customerv1.RegisterCustomerServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		s.complete.Wait()
	})
	return dial(t, listener.Addr().String())
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// begin starts a checker, whose restarts keep the shop's memory unless it isn't durable.
func (s *shop) begin(t *testing.T) (*conform.Checker, error) {
	t.Helper()
	return conform.Start(t.Context(), conform.Suite{
		Conn: s.serve(t), Patience: 2 * time.Second, Timeout: time.Second,
		Restart: func(context.Context) (grpc.ClientConnInterface, error) {
			if s.mistake == notDurable {
				s.mu.Lock()
				s.rows = map[key]*row{}
				s.mu.Unlock()
			}
			return s.serve(t), nil
		},
	})
}

var changeAddress = customerv1.File_acme_customer_v1_customer_service_proto.Services().Get(0).Methods().
	ByName("ChangeAddress")

func (s *shop) given() conform.Case {
	return conform.Case{
		Method: changeAddress,
		Request: func(unique string) (proto.Message, error) {
			return &customerv1.ChangeAddressRequest{Customer: "customers/" + unique}, nil
		},
		Refused: func(string) (proto.Message, error) {
			return &customerv1.ChangeAddressRequest{Customer: "customers/closed"}, nil
		},
		Effects: s.count,
	}
}
