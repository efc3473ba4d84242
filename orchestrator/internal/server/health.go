package server

import (
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxHealthStreams limits the health checks of one connection.
	maxHealthStreams = 100

	// maxHealthBytes limits a health check, in bytes.
	maxHealthBytes = 4 << 10
)

// NewHealthServer returns a gRPC server that serves the health of this server and nothing else, without TLS, for those
// who check it and have no certificate.
func (s *Server) NewHealthServer() *grpc.Server {
	checked := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxHealthBytes), grpc.MaxConcurrentStreams(maxHealthStreams),
		grpc.MaxHeaderListSize(maxHealthBytes), grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(
			keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true},
		),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: idlePing}),
	)
	healthv1.RegisterHealthServer(checked, s.health)
	return checked
}
