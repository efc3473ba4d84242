// Package orchestrator runs sagas. It is all that a main function needs, besides the saga code itself.
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
// If you write your own main, call [New] with options, register the saga definitions, and then serve. Generated
// functions register them; an Orchestrator is a saga.Registrar:
//
//	o, err := orchestrator.New(
//		orchestrator.WithStore("treaty.db"),
//		orchestrator.WithParticipant("acme.customer.v1.CustomerService", "127.0.0.1:7101"),
//	)
//	if err != nil {
//		return err
//	}
//	customerv1saga.RegisterCustomerSagas(o, Sagas{})
//	return o.ListenAndServe(ctx, orchestrator.DefaultListen) // until ctx ends
//
// An Orchestrator handles no signals and reads no flags. The only environment variables that it reads are
// OpenTelemetry's OTEL_* variables.
//
// [WithServerOptions] adds interceptors to the API, for example to authorize callers. [WithParticipantDialOptions] is
// for connections to participants. [WithSpanExporter], [WithSpanProcessor], [WithSpanSampler], [WithTelemetryResource]
// and [WithMetricReader] are for telemetry that your program sets up itself.
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
