package participant

import (
	"context"

	"google.golang.org/grpc"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
)

// RegisterParticipantService registers treaty.v1.ParticipantService on a server, for a server that wasn't made by
// [NewServer]. It needs the interceptor of [UnaryServerInterceptor]. services returns the full names of the services
// served, which may be known only after this call. Orchestrators send commands to such a server as unary calls.
func RegisterParticipantService(registrar grpc.ServiceRegistrar, services func() []string, keepers ...Keeper) {
	incoming.RegisterParticipantService(registrar, services, adapt(keepers)...)
}

func adapt(keepers []Keeper) []incoming.Keeper {
	adapted := make([]incoming.Keeper, len(keepers))
	for i, keeper := range keepers {
		adapted[i] = adaptedKeeper{keeper}
	}
	return adapted
}

// adaptedKeeper is a Keeper with this package's Caller.
type adaptedKeeper struct{ keeper Keeper }

func (a adaptedKeeper) KeptMethods() []string { return a.keeper.KeptMethods() }

func (a adaptedKeeper) Hear(
	ctx context.Context, caller incoming.Caller, told *treatyv1.DescribeRequest,
) (*treatyv1.HeardScope, error) {
	return a.keeper.Hear(ctx, Caller(caller), told)
}

func (a adaptedKeeper) ListCommands(
	ctx context.Context, caller incoming.Caller, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	return a.keeper.ListCommands(ctx, Caller(caller), request)
}

func (a adaptedKeeper) CloseCommand(
	ctx context.Context, caller incoming.Caller, request *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	return a.keeper.CloseCommand(ctx, Caller(caller), request)
}
