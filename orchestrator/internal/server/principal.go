package server

import (
	"context"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// authenticateUnary finds out who makes a call. It is the first interceptor of the chain, so all others know it.
func (s *Server) authenticateUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	known, err := s.authenticate(ctx, info.FullMethod)
	if err != nil {
		_ = grpc.SetTrailer(ctx, markOf(err))
		return nil, s.explain(ctx, strings.TrimPrefix(info.FullMethod, "/"), request, err)
	}
	return handle(known, request)
}

// authenticateStream is authenticateUnary for streams.
func (s *Server) authenticateStream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	known, err := s.authenticate(stream.Context(), info.FullMethod)
	if err != nil {
		stream.SetTrailer(markOf(err))
		return s.explain(stream.Context(), strings.TrimPrefix(info.FullMethod, "/"), nil, err)
	}
	return handle(server, &knownStream{stream, known})
}

// knownStream is a stream whose context has the principal.
type knownStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // that of the stream
}

// Context returns the context of the call.
func (s *knownStream) Context() context.Context { return s.ctx }

// authenticate returns the context with the call's principal.
func (s *Server) authenticate(ctx context.Context, method string) (context.Context, error) {
	principal, err := s.callers.Authenticate(ctx)
	if err != nil {
		if s.firstTime(err.Error()) {
			s.logger.WarnContext(ctx, "a call was refused, since its bearer token isn't valid", "error", err)
		}
		if s.audit != nil {
			var from net.Addr
			if p, ok := peer.FromContext(ctx); ok {
				from = p.Addr
			}
			s.audit.TokenRefused(ctx, strings.TrimPrefix(method, "/"), from, err)
		}
		return ctx, &apiError{
			code: codes.Unauthenticated, reason: treatyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID,
			message: "the call's bearer token isn't valid here: get a new one, or leave it out; the orchestrator's " +
				"log says what is wrong with it",
		}
	}
	return access.NewContext(ctx, principal), nil
}

// principalSchemes are what the identities of principals begin with that the URIs of certificates must not pass for.
// A certificate with a SPIFFE id is the principal of that id.
var principalSchemes = []string{"spiffe:", "x509:", "dns:", "jwt:", "local:"}

// callerIs returns whether the caller has one of the identities: those of its principal, and the URIs and names in its
// certificate, unless it is known by a token.
func callerIs(ctx context.Context, identities []string) bool {
	principal := access.PrincipalOf(ctx)
	switch principal.Kind {
	case access.Anonymous, "":
		return false
	case access.SPIFFE, access.X509:
		uris := slices.DeleteFunc(slices.Clone(identities), func(identity string) bool {
			return slices.ContainsFunc(principalSchemes, func(scheme string) bool {
				return strings.HasPrefix(identity+":", scheme)
			})
		})
		if caller.Has(callersCertificate(ctx), uris) {
			return true
		}
	}
	return slices.ContainsFunc(principal.Identities(), func(own string) bool {
		return slices.Contains(identities, own)
	})
}
