// Package saga is the package that saga code imports. It has the [Context] through which a saga sends commands, and the
// functions that run branches, wait, and read time.
//
// # Writing a saga
//
// A saga is a Go function that implements a method of a generated interface. It calls generated functions, one per
// command, as if they were ordinary functions:
//
//	func (Sagas) ChangeAddress(
//		ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
//	) (*customerv1.AddressAgreed, error) {
//		if _, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{...}); err != nil {
//			return nil, err
//		}
//		if _, err := cardv1saga.ChangePostalAddress(ctx, &cardv1.ChangePostalAddressRequest{...}); err != nil {
//			return nil, err // compensates: the customer's address is restored
//		}
//		return &customerv1.AddressAgreed{...}, nil
//	}
//
// If the function returns an error, the orchestrator compensates the steps of the saga, newest first. If it returns a
// reply, the saga has succeeded. A command that a participant refuses returns an [*Error]. [Rejection] finds the typed
// reason, and the code may take another path. A failure that another attempt may overcome is retried and never
// returned.
//
// # Branches and scopes
//
// [All] and [Each] run branches in parallel. [Try] runs a scope, which compensates its own steps when it fails, so
// that the saga can continue in another way.
//
// # Waiting
//
// [Sleep] and [SleepUntil] wait for a time, [Await] for an event, and [First] for the first of several events and
// timers. A wait survives restarts of the orchestrator. The orchestrator evicts a saga that only waits, so a wait of a
// year costs no memory.
//
// # Determinism
//
// The orchestrator records every command, reply, wait and event in the saga's journal. To recover a saga it runs the
// code again from the start and answers from the journal. Code must therefore do the same each time it runs:
//
//   - Use [Now], [NewID], [Rand] and [Logger] instead of a clock, random numbers and a global logger.
//   - Don't start goroutines, call the network, or read files, the environment or variables that other code changes.
//     Commands do that.
//   - Don't block: a saga whose code runs for seconds without a command, a wait or its end is suspended.
//   - Sort the keys of a map before you send a command for each.
//   - Deferred functions also run when the saga is evicted, so they must not have effects outside the function. Don't
//     recover around calls that take the Context.
//
// Code that doesn't match its journal suspends the saga: nothing is lost, and an operator decides how it continues.
// [Version] changes code while sagas run. [Restart] starts over with an empty journal, for sagas that loop for years.
//
// # Generated code
//
// [Call], [Broadcast], [NextEvent], [Register] and [SupportPackageIsVersion1] are for generated code. Saga code calls
// the generated functions instead.
package saga

// SupportPackageIsVersion1 is referenced by generated code. Code from a generator that is newer than this package
// doesn't compile.
const SupportPackageIsVersion1 = true
