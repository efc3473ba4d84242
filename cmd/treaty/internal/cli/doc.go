// Package cli is the command line of the program treaty: its commands, flags and exit codes.
//
// [Run] runs one command line. Each command is in a file named after it. A command reads its flags, calls the
// orchestrator through package connection, and prints what package render makes of the answer. Package problem explains
// failures, package schema has the types of payloads, and package resource reads names and states.
//
// The program knows an orchestrator only by its public gRPC API and server reflection. It never imports the
// orchestrator, keeps no state between runs, and never shows a field marked debug_redact.
package cli
