// Package orchestrator runs sagas. Besides the saga code itself, it is all that a main function needs.
//
// # A program
//
// [Main] is a whole program with flags, environment variables and signals:
//
//	func main() {
//		os.Exit(orchestrator.Main(func(r saga.Registrar) {
//			customerv1saga.RegisterCustomerSagas(r, Sagas{})
//		}))
//	}
//
// Run it with --help, or see docs/operating.md.
//
// # Your own main
//
// If you write your own main, use [New] with options and [Orchestrator.Serve]. Between the two, register the saga
// definitions with the generated functions: an Orchestrator is a saga.Registrar.
//
// # The API
//
// An orchestrator serves each registered saga service as itself, so that a client starts a saga by calling its method.
// It also serves treaty.v1.SagaService to search, cancel and repair sagas, treaty.v1.EventService, and gRPC health,
// reflection and channelz.
//
// # The upgrade gate
//
// [Orchestrator.Verify] replays all open sagas against the registered code before a new build is deployed.
package orchestrator
