package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// describer is a participant that describes itself as a test says.
type describer struct {
	treatyv1.UnimplementedParticipantServiceServer

	mu       sync.Mutex
	response *treatyv1.DescribeResponse
	err      error
	unmarked bool
	heard    []*treatyv1.DescribeRequest
	listed   [][]*treatyv1.KnownCommand // pages
	listErr  error
	closed   *treatyv1.CloseCommandResponse
	closeErr error
	asked    []*treatyv1.CloseCommandRequest
}

func newDescriber() *describer {
	return &describer{response: &treatyv1.DescribeResponse{
		ProtocolVersion: 1, Services: []string{testService}, KeptMethods: []string{testMethod},
		Features: []treatyv1.ParticipantFeature{
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_ANSWER_MARKS,
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS,
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_CLOSE_COMMAND,
		},
	}}
}

func (s *describer) Describe(
	ctx context.Context, request *treatyv1.DescribeRequest,
) (*treatyv1.DescribeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, request)
	mark := wire.AnswerDone
	if s.err != nil {
		mark = wire.AnswerAttempt
	}
	if !s.unmarked {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, mark))
	}
	if s.err != nil {
		return nil, s.err
	}
	response := &treatyv1.DescribeResponse{
		ProtocolVersion: 1, Services: s.response.GetServices(), KeptMethods: s.response.GetKeptMethods(),
		Features: s.response.GetFeatures(), Heard: s.response.GetHeard(),
	}
	for key := range received(ctx) {
		if strings.HasPrefix(key, wire.KeyPrefix) {
			response.ReceivedKeys = append(response.ReceivedKeys, key)
		}
	}
	return response, nil
}

func (s *describer) ListCommands(
	ctx context.Context, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listErr != nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
		return nil, s.listErr
	}
	if len(s.listed) == 0 {
		return &treatyv1.ListCommandsResponse{}, nil
	}
	if request.GetPageToken() == "" && len(s.listed) > 1 {
		return &treatyv1.ListCommandsResponse{Commands: s.listed[0], NextPageToken: "second"}, nil
	}
	return &treatyv1.ListCommandsResponse{Commands: s.listed[len(s.listed)-1]}, nil
}

func (s *describer) CloseCommand(
	ctx context.Context, request *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, request)
	if s.closeErr != nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
		return nil, s.closeErr
	}
	return s.closed, nil
}

// serveDescriber starts a participant that describes itself and handles commands.
func serveDescriber(t *testing.T, service *describer, h handler) string {
	t.Helper()
	s := newServer(h)
	treatyv1.RegisterParticipantServiceServer(s, service)
	return testkit.ServeOn(t, s, anyPort)
}

// memory remembers in memory.
type memory struct {
	mu       sync.Mutex
	proven   map[string]bool
	horizons map[string]time.Time
	err      error
}

func newMemory() *memory {
	return &memory{proven: make(map[string]bool), horizons: make(map[string]time.Time)}
}

func (m *memory) Proven(service string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proven[service]
}

func (m *memory) SetProven(_ context.Context, services []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, service := range services {
		m.proven[service] = true
	}
	return nil
}

func (m *memory) SetHorizon(_ context.Context, services []string, horizon time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		m.horizons[service] = horizon
	}
	return nil
}

// self returns what an orchestrator says about itself, and a channel that receives why it was replaced.
func self(change ...func(*Self)) (*Self, chan string) {
	replaced := make(chan string, 10)
	position := uint64(10)
	s := &Self{
		Scope: "/0", StoreID: "store", Epoch: 100, PreviousEpoch: 90, Position: position,
		NextPosition: func(_ context.Context, above uint64) (uint64, error) {
			position = max(position, above) + 1
			return position, nil
		},
		Horizon:  func() time.Time { return time.UnixMilli(1000) },
		Replaced: func(cause string, _ uint64) { replaced <- cause },
	}
	for _, c := range change {
		c(s)
	}
	return s, replaced
}

// awaitOpen waits until commands may be sent.
func awaitOpen(t *testing.T, d *Dispatcher) {
	t.Helper()
	select {
	case slot := <-admit(d):
		slot.Release()
	case <-t.Context().Done():
	}
}

// TestGreeting asks participants what they are.
func TestGreeting(t *testing.T) {
	tests := []struct {
		name     string
		change   func(*describer)
		remember bool // the participant was proven before
		proven   bool
		plain    bool
		told     bool
		problem  string
	}{
		{"it marks its answers", func(*describer) {}, false, true, false, true, ""},
		{
			"it marks nothing", func(s *describer) { s.response.Features, s.unmarked = nil, true },
			false, false, false, true, "",
		},
		{"it doesn't know the service", func(s *describer) {
			s.err, s.unmarked = status.Error(codes.Unimplemented, "unknown service"), true
		}, false, false, true, true, ""},
		{"somebody says that it doesn't know the service", func(s *describer) {
			s.err, s.unmarked = status.Error(codes.Unimplemented, "unknown service"), true
		}, true, true, false, true, ""},
		{"it fails", func(s *describer) { s.err = status.Error(codes.Internal, "oh") }, false, true, false, false,
			"doesn't describe itself"},
		{"somebody fails", func(s *describer) {
			s.err, s.unmarked = status.Error(codes.PermissionDenied, "not you"), true
		}, false, false, false, false, "doesn't describe itself"},
		{"somebody else answers", func(s *describer) { s.response.Services = []string{"acme.other.v1.Other"} }, false,
			false,
			false, false, "isn't the participant"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			service := newDescriber()
			test.change(service)
			remembered := newMemory()
			if test.remember {
				remembered.proven[testService] = true
			}
			me, replaced := self()
			d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) {
				c.Self, c.Memory = me, remembered
			})
			awaitOpen(t, d)
			p := d.participants[0]
			state := d.scopes.open[0].Participants()[0]
			if p.isProven() != test.proven || p.isPlain() != test.plain ||
				remembered.Proven(testService) != test.proven {
				t.Errorf("proven %v, plain %v, remembered %v; want %v, %v", p.isProven(), p.isPlain(),
					remembered.Proven(testService), test.proven, test.plain)
			}
			if state.Described != test.told || !strings.Contains(state.Problem, test.problem) ||
				(test.problem == "") != (state.Problem == "") {
				t.Errorf("the state is %+v", state)
			}
			if len(replaced) > 0 {
				t.Errorf("replaced: %s", <-replaced)
			}
			service.mu.Lock()
			defer service.mu.Unlock()
			if heard := service.heard[0]; heard.GetPosition() != 11 || heard.GetStoreId() != "store" ||
				heard.GetHorizon().AsTime().UnixMilli() != 1000 {
				t.Errorf("the participant was told %v", heard)
			}
		})
	}
}

// TestHeardScope finds out from what a participant has heard whether another store has taken over.
func TestHeardScope(t *testing.T) {
	for _, test := range []struct {
		name     string
		heard    *treatyv1.HeardScope
		restored bool
		replaced string
	}{
		{"nothing", nil, false, ""},
		{"the epoch before", &treatyv1.HeardScope{Epoch: 90, Position: 10, StoreId: "store"}, false, ""},
		{"an earlier epoch", &treatyv1.HeardScope{Epoch: 80, Position: 3}, false, ""},
		{"this epoch already", &treatyv1.HeardScope{Epoch: 100, Position: 99}, false, ""},
		{"an epoch in between", &treatyv1.HeardScope{Epoch: 95}, false, "has heard the epoch 95"},
		{"a later position", &treatyv1.HeardScope{Epoch: 90, Position: 11}, false, "has heard the position 11"},
		{"an epoch in between, by a restored store", &treatyv1.HeardScope{Epoch: 95, Position: 99}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			service := newDescriber()
			service.response.Heard = test.heard
			me, replaced := self(func(s *Self) { s.Restored = test.restored })
			d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
			awaitOpen(t, d)
			cause := ""
			if len(replaced) > 0 {
				cause = <-replaced
			}
			if (cause == "") != (test.replaced == "") || !strings.Contains(cause, test.replaced) {
				t.Errorf("replaced: %q, want %q", cause, test.replaced)
			}
			if !test.restored {
				return
			}
			if next, err := me.NextPosition(t.Context(), 0); err != nil || next <= test.heard.GetPosition() {
				t.Errorf("a restored store continues with the position %d, %v; the participant has heard %d", next, err,
					test.heard.GetPosition())
			}
		})
	}
}

// TestStaleAtGreeting hears of a later epoch.
func TestStaleAtGreeting(t *testing.T) {
	service := newDescriber()
	_, err := saysReason(codes.Aborted, treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH)(t.Context(), nil)
	service.err = err
	me, replaced := self()
	d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
	awaitOpen(t, d)
	if cause := <-replaced; !strings.Contains(cause, "knows a later epoch") {
		t.Errorf("replaced: %s", cause)
	}
}

// TestDroppedMetadata holds commands back while something on the way drops their metadata.
func TestDroppedMetadata(t *testing.T) {
	service := newDescriber()
	middle, err := hostile.Listen(serveDescriber(t, service, echo), hostile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(middle.Close)
	middle.Program(func(*hostile.Call) hostile.Plan {
		return hostile.Pass().WithoutMetadata(wire.EpochKey, wire.ScopeKey)
	})
	me, _ := self()
	d := dispatcher(t, middle.Addr(), func(c *testConfig) { c.Self, c.Rand = me, func() float64 { return 0 } })
	granted := admit(d)
	if waitingCalls(d) != 1 {
		t.Fatal("commands may be sent at once")
	}
	if err := middle.Await(t.Context(), func(calls []hostile.Record) bool { return len(calls) >= 2 }); err != nil {
		t.Fatal(err)
	}
	if problem := d.scopes.open[0].Participants()[0].Problem; !strings.Contains(problem, "METADATA_DROPPED") ||
		!strings.Contains(problem, wire.EpochKey+", "+wire.ScopeKey) {
		t.Errorf("the problem is %q", problem)
	}
	select {
	case <-granted:
		t.Error("commands may be sent although their metadata is dropped")
	default:
	}
	middle.Program(func(*hostile.Call) hostile.Plan { return hostile.Pass() })
	<-granted
}

// TestCloseCommand asks what became of a command.
func TestCloseCommand(t *testing.T) {
	failure := &treatyv1.Failure{Code: int32(codes.NotFound), Message: "no such thing"}
	_, otherErr := saysReason(codes.Internal, treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST)(t.Context(), nil)
	for _, test := range []struct {
		name     string
		response *treatyv1.CloseCommandResponse
		err      error
		want     engine.Verdict
		halt     engine.Halt
	}{
		{"executed", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Executed_{
			Executed: &treatyv1.CloseCommandResponse_Executed{Reply: []byte("reply")},
		}}, nil, engine.WasExecuted, 0},
		{"accepted", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Accepted_{}}, nil,
			engine.WasAccepted, 0},
		{"refused", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Refused_{
			Refused: &treatyv1.CloseCommandResponse_Refused{Failure: failure},
		}}, nil, engine.WasRefused, 0},
		{"compensated", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Compensated_{}}, nil,
			engine.WasCompensated, 0},
		{"closed", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Closed_{}}, nil,
			engine.ClosedNow, 0},
		{"not kept", &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_NotKept_{}}, nil,
			engine.NotKept, 0},
		{"an answer of a later version", &treatyv1.CloseCommandResponse{}, nil, engine.NotAnswered, 0},
		{"unimplemented", nil, status.Error(codes.Unimplemented, "no"), engine.NotKept, 0},
		{"failed", nil, status.Error(codes.Unavailable, "no"), engine.NotAnswered, 0},
		{"other request", nil, otherErr, engine.NotAnswered, engine.HaltOtherRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			service := newDescriber()
			service.closed, service.closeErr = test.response, test.err
			me, _ := self()
			d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
			awaitOpen(t, d)
			a := attempt()
			a.Digest = "0123"
			got := d.CloseCommand(t.Context(), a)
			if got.Verdict != test.want || got.Halt != test.halt {
				t.Errorf("got %+v", got)
			}
			if test.want == engine.WasExecuted && string(got.Reply) != "reply" ||
				test.want == engine.WasRefused && got.Failure.GetMessage() != "no such thing" {
				t.Errorf("got %+v", got)
			}
			if asked := service.asked[0]; asked.GetCommandId() != "sagas/s1/steps/3" ||
				asked.GetMethod() != testMethod ||
				asked.GetRequestDigest() != "0123" {
				t.Errorf("it was asked %v", asked)
			}
		})
	}
	plain := dispatcher(t, serve(t, anyPort, echo).addr, func(c *testConfig) {
		c.Participants[0].Answers = AnswersPlain
	})
	if got := plain.CloseCommand(t.Context(), attempt()); got.Verdict != engine.NotKept {
		t.Errorf("a plain participant: got %+v", got)
	}
}

// TestLookUp looks a command up in pages.
func TestLookUp(t *testing.T) {
	command := func(step string, verdict treatyv1.CommandVerdict, undo bool) *treatyv1.KnownCommand {
		direction := treatyv1.StepDirection_STEP_DIRECTION_ACTION
		if undo {
			direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
		}
		return &treatyv1.KnownCommand{
			CommandId: wire.StepName("s1", step), Direction: direction, Verdict: verdict, Method: testMethod,
			RequestDigest: "0123",
		}
	}
	const executed = treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED
	for _, test := range []struct {
		name  string
		pages [][]*treatyv1.KnownCommand
		want  engine.Verdict
	}{
		{"nothing", nil, engine.NeverSeen},
		{"other steps", [][]*treatyv1.KnownCommand{{command("1", executed, false)}}, engine.NeverSeen},
		{"on the second page", [][]*treatyv1.KnownCommand{
			{command("1", executed, false)}, {command("3", executed, false)},
		}, engine.WasExecuted},
		{"compensated", [][]*treatyv1.KnownCommand{
			{command("3", executed, false), command("3", executed, true)},
		}, engine.WasCompensated},
		{"accepted", [][]*treatyv1.KnownCommand{
			{command("3", treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED, false)},
		}, engine.WasAccepted},
		{"refused late", [][]*treatyv1.KnownCommand{
			{command("3", treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED_LATE, false)},
		}, engine.WasRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			service := newDescriber()
			service.listed = test.pages
			me, _ := self()
			d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
			awaitOpen(t, d)
			if got := d.LookUp(t.Context(), attempt()); got.Verdict != test.want {
				t.Errorf("got %+v", got)
			}
			var listed []string
			if err := d.scopes.open[0].ListCommands(t.Context(), testService, &treatyv1.ListCommandsRequest{},
				func(c *treatyv1.KnownCommand) error {
					listed = append(listed, c.GetCommandId())
					return nil
				}); err != nil || len(listed) != len(slices.Concat(test.pages...)) {
				t.Errorf("listed %v, %v", listed, err)
			}
		})
	}
}

// full is a memory that stores nothing.
type full struct{ *memory }

func (full) SetHorizon(ctx context.Context, _ []string, _ time.Time) error {
	return cmp.Or(ctx.Err(), errors.New("the disk is full"))
}

// TestHorizonIsNotStored can't store which horizon a participant is told. The log says so, unless the orchestrator
// stops.
func TestHorizonIsNotStored(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	stop()
	for name, test := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"a failure":      {t.Context(), "the disk is full"},
		"it is stopping": {stopping, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log capture
			s, _ := self()
			p := &participant{credit: &credit{memory: full{newMemory()}}}
			g := &greeting{introduction: newIntroduction(p, log.logger(), nil), self: s}
			got, said := g.horizon(test.ctx), log.text()
			if !got.IsZero() || !strings.Contains(said, test.want) || test.want == "" && said != "" {
				t.Errorf("it tells %v and logs %q, want nothing told and %q", got, said, test.want)
			}
		})
	}
}
