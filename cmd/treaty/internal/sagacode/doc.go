// Package sagacode reads the Go source of sagas: which commands each saga sends, and which rejections it looks for.
//
// [Read] loads packages with the go command, as "go build" does, and checks their types. It runs none of their code.
// From the code that is registered for a saga definition, it follows every function that is called or named, in all
// packages that use package saga: methods, helpers in other packages, functions in variables, and every implementation
// of an interface. So it may find a command that no run of the saga sends. It misses one only if its function comes
// from a field that other code sets. A method whose name is made at run time is an error.
//
// The contracts are taken from the generated code that the sagas are compiled with, so they are those that the
// orchestrator will run with.
package sagacode
