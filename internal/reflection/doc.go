// Package reflection asks a server for its contracts by gRPC server reflection.
//
// A [Client] asks for messages, methods and services, v1 or else v1alpha, and keeps the answers. A type that the server
// doesn't offer is taken from this program when it is built in. What the server reflection for Node leaves out of its
// files is completed.
//
// Whoever answers may be hostile: descriptors may import themselves, miss imports, be nested without end, or be huge.
// All of that ends with an error and little work.
package reflection
