package main

import (
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
)

// help is what a person reads who runs the plugin.
const help = `protoc-gen-go-treaty is a plugin of protoc and buf. It checks contracts and generates code for sagas.

Run buf generate, with a buf.gen.yaml that has it after the plugins of Go and gRPC:

  version: v2
  plugins:
    - local: protoc-gen-go
      out: gen
      opt: paths=source_relative
    - local: protoc-gen-go-grpc
      out: gen
      opt: paths=source_relative
    - local: protoc-gen-go-treaty
      out: gen
      opt: paths=source_relative

Contracts import treaty/v1/options.proto, which "treaty protos DIR" writes. Options and rules:
` + reference + `

Flags:
  --help     print this help
  --version  print the version of this program
`

// notByPerson is said to a person who runs the plugin as if it were the compiler.
const notByPerson = "protoc or buf runs this program, not a person; see --help"

// isTerminal reports whether a person would have to type the compiler's request.
func isTerminal(in io.Reader) bool {
	file, is := in.(interface{ Stat() (fs.FileInfo, error) })
	if !is {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// answer prints what a person asked for with arguments.
func answer(args []string, out io.Writer) error {
	text := help
	switch {
	case len(args) > 1:
		return fmt.Errorf("unknown argument %q: see --help", args[1])
	case args[0] == "--version":
		text = "protoc-gen-go-treaty " + version() + "\n"
	case args[0] != "--help" && args[0] != "-h":
		return fmt.Errorf("unknown argument %q: %s", args[0], notByPerson)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// version returns the module's version, or "devel" when the program has none.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
