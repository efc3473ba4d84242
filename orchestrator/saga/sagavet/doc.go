// Package sagavet finds mistakes in saga code before it runs. It is an analyzer for go vet and golangci-lint; the
// program treatyvet runs it:
//
//	go build -o bin/treatyvet github.com/treatyhq/treaty/cmd/treatyvet
//	go vet -vettool=bin/treatyvet ./...
//
// # What it reads
//
// Saga code is each function with a parameter of type saga.Context, and what such a function names in its own package:
// functions, methods, tables of functions, and implementations of the package's interfaces. Functions of other packages
// are followed if they are in the same module. Tests and generated code aren't saga code.
//
// # What it finds
//
// Each finding ends with the id of its check.
//
//   - clock: the clock, its timers and time.Sleep
//   - random: random numbers and ids that are other ones in a replay
//   - goroutine: goroutines
//   - channel: channels and select
//   - sync: locks, atomics and what else package sync has
//   - network: connections, calls and databases
//   - file: files and the standard streams
//   - environment: environment variables, the host and the process
//   - process: other programs, signals, and the end of the process
//   - log: loggers and printing that repeat their lines in each replay
//   - map-order: ranging over a map around commands and waits, or into a slice that isn't sorted
//   - shared-state: package variables that change, and fields of the value that implements the sagas
//   - context: a Context that is used outside of its branch or scope
//   - ignored-error: an error of a command or wait that isn't looked at
//   - nil-reply: a saga that returns neither a reply nor an error
//   - order: a command that can't follow the point of no return
//   - branch-order: a command that can't be in a parallel branch
//   - recover: a recover that hides how saga code is stopped
//   - defer: a deferred call that takes a Context
//
// It reports what is certainly or most likely a mistake, and stays silent when it can't tell. So it doesn't replace the
// tests of a saga.
//
// # Silencing a line
//
// A comment with a reason silences its line, or the one below it if it stands alone:
//
//	limit := maxLimit //treaty:allow it is set before the orchestrator serves, and never changes
package sagavet
