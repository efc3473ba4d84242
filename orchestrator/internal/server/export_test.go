package server

import (
	"slices"

	"google.golang.org/grpc"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// Methods returns the full names of all methods that the server serves, sorted, and whether each is a stream.
func (s *Server) Methods() (names []string, streams map[string]bool) {
	streams = make(map[string]bool)
	for service, info := range s.grpc.GetServiceInfo() {
		for _, method := range info.Methods {
			name := service + "/" + method.Name
			names = append(names, name)
			streams[name] = method.IsClientStream || method.IsServerStream
		}
	}
	slices.Sort(names)
	return names, streams
}

// ServeUnasked adds a service to a server that nobody has a rule for, and returns what New would say about it.
func (s *Server) ServeUnasked(desc *grpc.ServiceDesc) error {
	s.grpc.RegisterService(desc, struct{}{})
	return s.checkRules()
}

// RedactEvent is redactEvent.
var RedactEvent = redactEvent

// HideTexts hides the texts of refusals in a saga, as for a caller who may not read them.
func HideTexts(catalog *contract.Catalog, saga *treatyv1.Saga) { newTexts(catalog).saga(saga) }
