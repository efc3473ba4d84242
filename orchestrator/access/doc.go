// Package access says who may do what at an orchestrator.
//
// A [Principal] is who makes a call, as the transport or a token has proved it. An [Authorizer] decides about a
// [Request], which is one action of a principal on one resource. What a caller says about itself decides nothing.
package access
