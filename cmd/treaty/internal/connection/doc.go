// Package connection connects to an orchestrator.
//
// [New] makes a [Client] for the orchestrator's public gRPC API from [Options], which are the connection flags of the
// command line. A connection uses TLS, or plaintext to loopback and Unix sockets. Plaintext to any other address needs
// [Options.Insecure].
//
// The package never retries a call.
package connection
