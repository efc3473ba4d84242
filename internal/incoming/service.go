package incoming

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// protocolVersion is the newest version of the protocol that this package speaks.
	protocolVersion = 1

	// maxListPage is the largest number of commands in a page, and the default.
	maxListPage = 1000

	// maxListSagas is the largest number of sagas in one request.
	maxListSagas = 1000
)

// Caller is the orchestrator that makes a call: the scope of its epoch, "{name}/{shard}", and the epoch.
type Caller struct {
	Scope string
	Epoch uint64
}

// Keeper keeps what became of commands. See participant.Keeper for what it promises.
type Keeper interface {
	KeptMethods() []string
	Hear(ctx context.Context, caller Caller, told *treatyv1.DescribeRequest) (*treatyv1.HeardScope, error)
	ListCommands(
		ctx context.Context, caller Caller, request *treatyv1.ListCommandsRequest,
	) (*treatyv1.ListCommandsResponse, error)
	CloseCommand(
		ctx context.Context, caller Caller, request *treatyv1.CloseCommandRequest,
	) (*treatyv1.CloseCommandResponse, error)
}

// RegisterParticipantService registers treaty.v1.ParticipantService for the keepers. services returns the full names of
// the services served, which may be known only after this call. The server marks the errors of the calls.
func RegisterParticipantService(registrar grpc.ServiceRegistrar, services func() []string, keepers ...Keeper) {
	RegisterStreamingParticipantService(registrar, services, nil, keepers...)
}

// RegisterStreamingParticipantService is RegisterParticipantService with a function that serves StreamCommands. Without
// one, the method is unimplemented.
func RegisterStreamingParticipantService(
	registrar grpc.ServiceRegistrar, services func() []string, serve ServeCommands, keepers ...Keeper,
) {
	treatyv1.RegisterParticipantServiceServer(registrar, &participantService{
		services: services, keepers: keepers, serveCommands: serve,
	})
}

// IsParticipantService returns whether a method belongs to treaty.v1.ParticipantService.
func IsParticipantService(method string) bool {
	return strings.HasPrefix(strings.TrimPrefix(method, "/"), treatyv1.ParticipantService_ServiceDesc.ServiceName+"/")
}

// participantService answers orchestrators' questions.
type participantService struct {
	treatyv1.UnimplementedParticipantServiceServer

	services      func() []string
	keepers       []Keeper
	serveCommands ServeCommands // nil: StreamCommands is unimplemented
}

// callerOf returns who asks.
func callerOf(ctx context.Context) (Caller, metadata.MD, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	// The metadata may be that of a command, to find out which keys get through.
	probe := md.Copy()
	for _, key := range []string{wire.SagaKey, wire.CommandIDKey, wire.DirectionKey} {
		delete(probe, key)
	}
	probe.Set(wire.CommandIDKey, wire.StepName("caller", "1"))
	probe.Set(wire.DirectionKey, wire.Action)
	command, _, err := ParseCommand(probe)
	if err != nil {
		return Caller{}, md, InvalidMetadata(err)
	}
	if command.Scope == "" {
		return Caller{}, md, status.Error(codes.InvalidArgument,
			"metadata "+wire.ScopeKey+": is missing; want {name}/{shard}")
	}
	return Caller{Scope: command.Scope, Epoch: command.Epoch}, md, CheckEpoch(command.Epoch, time.Now())
}

// Describe implements treaty.v1.ParticipantService.
func (s *participantService) Describe(
	ctx context.Context, request *treatyv1.DescribeRequest,
) (*treatyv1.DescribeResponse, error) {
	caller, md, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	heard, err := s.hear(ctx, caller, request)
	if err != nil {
		return nil, err
	}
	services := s.servicesServed()
	response := &treatyv1.DescribeResponse{
		ProtocolVersion: protocolVersion, Build: build(),
		Services: services, ContractsDigest: ContractsDigest(services), KeptMethods: s.keptMethods(), Heard: heard,
		Features: []treatyv1.ParticipantFeature{treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_ANSWER_MARKS},
	}
	if len(s.keepers) > 0 {
		response.Features = append(response.Features,
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS,
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_CLOSE_COMMAND)
	}
	if s.serveCommands != nil {
		response.Features = append(response.Features,
			treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_STREAM_COMMANDS)
	}
	for key := range md {
		if strings.HasPrefix(key, wire.KeyPrefix) {
			response.ReceivedKeys = append(response.ReceivedKeys, key)
		}
	}
	slices.Sort(response.ReceivedKeys)
	Mark(ctx, wire.AnswerDone)
	return response, nil
}

// hear tells all keepers what the caller says, and returns the most that any of them knew before.
func (s *participantService) hear(
	ctx context.Context, caller Caller, told *treatyv1.DescribeRequest,
) (*treatyv1.HeardScope, error) {
	var heard *treatyv1.HeardScope
	var first error
	for _, keeper := range s.keepers {
		known, err := keeper.Hear(ctx, caller, told)
		if err != nil {
			if first == nil {
				first = err
			}
			continue // the others hear it all the same
		}
		if known == nil {
			continue
		}
		if heard == nil {
			heard = new(treatyv1.HeardScope)
		}
		if known.GetEpoch() >= heard.GetEpoch() {
			heard.StoreId = known.GetStoreId()
		}
		heard.Epoch = max(heard.GetEpoch(), known.GetEpoch())
		heard.Position = max(heard.GetPosition(), known.GetPosition())
		if known.GetHorizon().AsTime().After(heard.GetHorizon().AsTime()) {
			heard.Horizon = known.GetHorizon()
		}
	}
	return heard, first
}

// servicesServed returns the services of the participant itself, sorted.
func (s *participantService) servicesServed() []string {
	services := slices.DeleteFunc(slices.Clone(s.services()), func(name string) bool {
		return strings.HasPrefix(name, "grpc.") || name == treatyv1.ParticipantService_ServiceDesc.ServiceName
	})
	slices.Sort(services)
	return slices.Compact(services)
}

func (s *participantService) keptMethods() []string {
	var methods []string
	for _, keeper := range s.keepers {
		methods = append(methods, keeper.KeptMethods()...)
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// ListCommands implements treaty.v1.ParticipantService.
func (s *participantService) ListCommands(
	ctx context.Context, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	caller, _, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.keepers) == 0 {
		return nil, status.Error(codes.Unimplemented, "this participant has no inbox whose commands it could list")
	}
	if err := checkList(request); err != nil {
		return nil, err
	}
	if _, err := s.hear(ctx, caller, nil); err != nil {
		return nil, err
	}
	// The page token says which keeper is being read, and how far. Its rows come keeper by keeper.
	index, token := 0, ""
	if request.GetPageToken() != "" {
		number, rest, found := strings.Cut(request.GetPageToken(), " ")
		if n, err := fmt.Sscanf(number, "%d", &index); !found || err != nil || n != 1 || index < 0 ||
			index >= len(s.keepers) {
			return nil, status.Error(codes.InvalidArgument, "page_token: isn't one that this participant has returned")
		}
		token = rest
	}
	page := proto.CloneOf(request)
	page.PageToken = token
	if page.PageSize <= 0 || page.PageSize > maxListPage {
		page.PageSize = maxListPage
	}
	response, err := s.keepers[index].ListCommands(ctx, caller, page)
	if err != nil {
		return nil, err
	}
	switch next := response.GetNextPageToken(); {
	case next != "":
		response.NextPageToken = fmt.Sprintf("%d %s", index, next)
	case index+1 < len(s.keepers):
		response.NextPageToken = fmt.Sprintf("%d ", index+1)
	}
	return response, nil
}

func checkList(request *treatyv1.ListCommandsRequest) error {
	switch {
	case (len(request.GetSagas()) == 0) == (request.GetSince() == nil):
		return status.Error(codes.InvalidArgument, "want either sagas or since")
	case len(request.GetSagas()) > maxListSagas:
		return status.Errorf(codes.InvalidArgument, "sagas: %d are too many; at most %d are allowed",
			len(request.GetSagas()), maxListSagas)
	case request.GetSince() != nil && request.GetSince().CheckValid() != nil:
		return status.Error(codes.InvalidArgument, "since: isn't a valid time")
	}
	for _, name := range request.GetSagas() {
		if _, ok := wire.ParseSagaName(name); !ok {
			return status.Errorf(codes.InvalidArgument, "sagas: want names like sagas/{saga}, got %.80q", name)
		}
	}
	return nil
}

// CloseCommand implements treaty.v1.ParticipantService.
func (s *participantService) CloseCommand(
	ctx context.Context, request *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	caller, _, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.keepers) == 0 {
		return nil, status.Error(codes.Unimplemented, "this participant has no inbox whose commands it could close")
	}
	if _, _, ok := wire.SplitStep(request.GetCommandId()); !ok || len(request.GetCommandId()) > wire.MaxCommandID {
		return nil, status.Errorf(codes.InvalidArgument, "command_id: want sagas/{saga}/steps/{step}, got %.80q",
			request.GetCommandId())
	}
	if request.GetRequestDigest() != "" && !isDigest(request.GetRequestDigest()) {
		return nil, status.Errorf(codes.InvalidArgument, "request_digest: want %d hex digits in lower case",
			wire.DigestLength)
	}
	if _, err := s.hear(ctx, caller, nil); err != nil {
		return nil, err
	}
	keepers := s.keepersOf(request.GetMethod())
	if len(keepers) == 0 {
		return notKept(), nil
	}
	// Several inboxes keep a method only if its handler chooses between them, so the one that knows the command
	// answers. Only the first that doesn't is told to refuse it from now on, and then the others, in the same order
	// every time.
	var best *treatyv1.CloseCommandResponse
	for _, keeper := range keepers {
		response, err := keeper.CloseCommand(ctx, caller, request)
		if err != nil {
			return nil, err
		}
		if best == nil || rankOf(response) > rankOf(best) {
			best = response
		}
	}
	return best, nil
}

// keepersOf returns the keepers of a method that is served here.
func (s *participantService) keepersOf(method string) []Keeper {
	service, _, _ := strings.Cut(method, "/")
	if !slices.Contains(s.services(), service) {
		return nil
	}
	var keepers []Keeper
	for _, keeper := range s.keepers {
		if slices.Contains(keeper.KeptMethods(), method) {
			keepers = append(keepers, keeper)
		}
	}
	return keepers
}

func notKept() *treatyv1.CloseCommandResponse {
	return &treatyv1.CloseCommandResponse{
		Outcome: &treatyv1.CloseCommandResponse_NotKept_{NotKept: &treatyv1.CloseCommandResponse_NotKept{}},
	}
}

// rankOf orders what several inboxes say about one command: where it was executed counts.
func rankOf(response *treatyv1.CloseCommandResponse) int {
	switch response.GetOutcome().(type) {
	case *treatyv1.CloseCommandResponse_Executed_:
		return 5
	case *treatyv1.CloseCommandResponse_Accepted_:
		return 4
	case *treatyv1.CloseCommandResponse_Compensated_:
		return 3
	case *treatyv1.CloseCommandResponse_Refused_:
		return 2
	case *treatyv1.CloseCommandResponse_Closed_:
		return 1
	default:
		return 0
	}
}

// build returns the version of the program, for people.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Path + " " + info.Main.Version
}

// ContractsDigest returns the digest of the descriptors of services, as drift.Digest does. It is empty if one of them
// isn't linked into the program.
func ContractsDigest(services []string) string {
	var files []protoreflect.FileDescriptor
	for _, service := range services {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			return ""
		}
		files = append(files, found.ParentFile())
	}
	return drift.Digest(files...)
}
