// Command protoc-gen-go-treaty is a protoc plugin. It checks the contracts of the files that it is given, and generates for
// each proto package with commands, events or sagas one small Go package: a typed function per command for saga code, two for
// each event that it can await, and an interface with a Register function per service of sagas.
//
// It belongs beside protoc-gen-go and protoc-gen-go-grpc in buf.gen.yaml, with the same options:
//
//   - local: protoc-gen-go-treaty
//     out: gen
//     opt: paths=source_relative
package main

import (
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/treatyhq/treaty/cmd/protoc-gen-go-treaty/internal/gen"
)

func main() {
	protogen.Options{ParamFunc: func(name, _ string) error {
		return fmt.Errorf("unknown parameter %q: protoc-gen-go-treaty knows those of every Go plugin, such as paths=source_relative and module=PREFIX", name)
	}}.Run(gen.Run)
}
