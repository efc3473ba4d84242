// Command protoc-gen-go-treaty is a protoc plugin. It checks contracts and generates code for sagas.
//
// For each proto package with commands, events or sagas, it generates one small Go package. Saga code calls its
// functions: one for each command, and two for each event. For each service of sagas, the package has an interface to
// implement and a Register function. If a contract breaks a rule, the plugin reports all violations and generates
// nothing.
//
// # Use
//
// In buf.gen.yaml, the plugin follows protoc-gen-go and protoc-gen-go-grpc and has the same options:
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
		return fmt.Errorf("unknown parameter %q: use the parameters of every Go plugin, such as paths=source_relative "+
			"or module=PREFIX", name)
	}}.Run(gen.Run)
}
