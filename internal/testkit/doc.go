// Package testkit is what the tests of several packages share: listeners, gRPC servers and connections on loopback,
// certificates, a logger whose output belongs to the test, and what builds the packages in TypeScript. Every function
// fails the test when something goes wrong, and everything that it starts ends with the test.
package testkit
