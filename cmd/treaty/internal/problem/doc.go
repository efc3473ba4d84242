// Package problem explains failures to the operator: what failed, and what to do next.
//
// A [Problem] is an error with an exit code, notes and hints. [Usage] makes one of a wrong command line. An [Explainer]
// makes one of the error of a call: it reads the gRPC status and the orchestrator's ErrorInfo, and adds hints that name
// flags of this program.
//
// The package prints nothing and never exits the process.
package problem
