// Package orchestrator runs sagas: it is the only thing that a main function needs, beside the saga code itself.
//
//	func main() {
//		os.Exit(orchestrator.Main(func(r saga.Registrar) {
//			customerv1saga.RegisterCustomerSagas(r, &Sagas{})
//		}))
//	}
//
// Main is a program with flags, environment variables and signals; docs/operating.md tells of them. New and Serve are the same for
// who brings an own main function.
package orchestrator
