// Package gen generates the Go code for commands, events and sagas. It decides nothing about contracts: package
// contract does.
package gen

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

const sagaPackage = protogen.GoImportPath("github.com/treatyhq/treaty/orchestrator/saga")

// Run generates all files that the plugin is asked for. If a contract breaks a rule, it generates nothing and returns
// an error with all violations, one per line.
func Run(plugin *protogen.Plugin) error {
	plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL |
		pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	plugin.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO2
	plugin.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2024
	var files []protoreflect.FileDescriptor
	for _, file := range plugin.Files {
		if file.Generate {
			files = append(files, file.Desc)
		}
	}
	if err := check(files); err != nil {
		return err
	}
	var contents []content
	packages := make(map[protogen.GoImportPath]*goPackage)
	for _, file := range plugin.Files {
		if !file.Generate {
			continue
		}
		content, err := read(file)
		if err != nil {
			return err
		}
		if len(content.commands) == 0 && len(content.services) == 0 && len(content.events) == 0 {
			continue
		}
		contents = append(contents, content)
		path := content.names.importPath
		if packages[path] == nil {
			packages[path] = new(goPackage)
		}
		packages[path].hasEvents = packages[path].hasEvents || len(content.events) > 0
	}
	for _, content := range contents {
		names := content.names
		g := &generator{names: names, imports: newImports(plugin)}
		for _, command := range content.commands {
			g.command(command)
		}
		for _, event := range content.events {
			g.event(event)
		}
		for _, service := range content.services {
			g.service(service)
		}
		g.writeTo(plugin.NewGeneratedFile(names.filename, names.importPath), *packages[names.importPath])
		packages[names.importPath].documented = true
	}
	return nil
}

func check(files []protoreflect.FileDescriptor) error {
	violations := contract.Check(files...)
	if len(violations) == 0 {
		return nil
	}
	errs := make([]error, 0, len(violations)+1)
	if len(violations) == 1 {
		//nolint:revive,staticcheck // a list follows
		errs = append(errs, errors.New("a contract breaks a rule (see docs/contract-reference.md):"))
	} else {
		//nolint:revive,staticcheck // a list follows
		errs = append(errs,
			fmt.Errorf("contracts break rules in %d places (see docs/contract-reference.md):", len(violations)))
	}
	for _, violation := range violations {
		errs = append(errs, violation)
	}
	return errors.Join(errs...)
}

// names are the names of the file, and of the package, that are generated for a .proto file.
type names struct {
	file       *protogen.File
	filename   string
	pkg        protogen.GoPackageName
	importPath protogen.GoImportPath
}

func namesOf(file *protogen.File) names {
	pkg := file.GoPackageName + "saga"
	dir, base := path.Split(file.GeneratedFilenamePrefix)
	return names{
		file:       file,
		filename:   path.Join(dir, string(pkg), base+".treaty.go"),
		pkg:        pkg,
		importPath: protogen.GoImportPath(path.Join(string(file.GoImportPath), string(pkg))),
	}
}

// command is a method that saga code can call.
type command struct {
	*protogen.Method
	contract *contract.Command
	isSaga   bool
}

// service is a service of sagas.
type service struct {
	*protogen.Service
	sagas []saga
}

// saga is a method that starts a saga.
type saga struct {
	*protogen.Method
	contract *contract.SagaDefinition
}

// goPackage holds what concerns all files of a generated package.
type goPackage struct {
	hasEvents  bool
	documented bool // a file has the package's doc comment
}

// content is what is generated for a file.
type content struct {
	names    names
	commands []command
	events   []event
	services []service
}

func read(file *protogen.File) (content, error) {
	c := content{names: namesOf(file)}
	for _, s := range file.Services {
		sagas := service{Service: s}
		for _, method := range s.Methods {
			asSaga, err := contract.SagaDefinitionOf(method.Desc)
			if err != nil {
				return c, err
			}
			if asSaga != nil {
				sagas.sagas = append(sagas.sagas, saga{Method: method, contract: asSaga})
			}
			asCommand, err := contract.CommandOf(method.Desc)
			if err != nil {
				return c, err
			}
			if asCommand != nil {
				c.commands = append(c.commands, command{Method: method, contract: asCommand, isSaga: asSaga != nil})
			}
		}
		if len(sagas.sagas) > 0 {
			c.services = append(c.services, sagas)
		}
	}
	var err error
	c.events, err = eventsOf(file.Messages, nil)
	return c, err
}

// generator writes one file. It collects the body first, because the body determines the imports.
type generator struct {
	names   names
	imports *imports
	body    strings.Builder
}

// p appends a line to the body.
func (g *generator) p(parts ...any) {
	for _, part := range parts {
		if ident, ok := part.(protogen.GoIdent); ok {
			part = g.imports.ident(ident)
		}
		fmt.Fprint(&g.body, part)
	}
	g.body.WriteByte('\n')
}

func (g *generator) writeTo(file *protogen.GeneratedFile, in goPackage) {
	file.P("// Code generated by protoc-gen-go-treaty. DO NOT EDIT.")
	file.P("//")
	file.P("// Source: ", g.names.file.Desc.Path())
	file.P()
	if !in.documented {
		functions := "commands"
		if in.hasEvents {
			functions = "commands and events"
		}
		file.P("// Package ", g.names.pkg, " has the ", functions, " of ", g.names.file.Desc.Package(),
			" as functions for saga code,")
		file.P("// and its sagas as interfaces.")
	}
	file.P("package ", g.names.pkg)
	file.P()
	file.P("import (")
	for _, path := range g.imports.paths() {
		file.P(g.imports.name(path), " ", path)
	}
	file.P(")")
	file.P()
	file.P("// If this doesn't compile, the generated code is newer than the saga package: update " +
		"github.com/treatyhq/treaty in")
	file.P("// go.mod, or generate the code again with the older plugin.")
	file.P("const _ = ", g.imports.ident(sagaPackage.Ident("SupportPackageIsVersion1")))
	file.P()
	file.P(g.body.String())
}

func (g *generator) command(c command) {
	g.doc(c.Method, "sends the command", commandSentences(c))
	if c.contract.Broadcast {
		g.p("func ", c.GoName, "(ctx ", sagaPackage.Ident("Context"), ", in *", c.Input.GoIdent, ") ([]",
			sagaPackage.Ident("Answer"), "[*", c.Output.GoIdent, "], error) {")
		g.p("return ", sagaPackage.Ident("Broadcast"), "[*", c.Output.GoIdent, "](ctx, ", g.fullMethod(c.Method),
			", in)")
		g.p("}")
		g.p()
		return
	}
	g.p("func ", c.GoName, "(ctx ", sagaPackage.Ident("Context"), ", in *", c.Input.GoIdent, ") (*", c.Output.GoIdent,
		", error) {")
	g.p("out := new(", c.Output.GoIdent, ")")
	g.p("if err := ", sagaPackage.Ident("Call"), "(ctx, ", g.fullMethod(c.Method), ", in, out); err != nil {")
	g.p("return nil, err")
	g.p("}")
	g.p("return out, nil")
	g.p("}")
	g.p()
}

func (g *generator) service(s service) {
	g.p("// ", s.GoName, " has a method for each saga of ", s.Desc.FullName(), ".")
	g.p("// If the method returns a reply, the saga has succeeded. If it returns an error, the saga is compensated.")
	g.p("// Methods must be deterministic: time, ids and random numbers come from package saga.")
	g.deprecation(deprecatedService(s.Service))
	g.p("type ", s.GoName, " interface {")
	for i, m := range s.sagas {
		if i > 0 {
			g.p()
		}
		g.doc(m.Method, "runs the saga", sagaSentences(m))
		g.p(m.GoName, "(ctx ", sagaPackage.Ident("Context"), ", in *", m.Input.GoIdent, ") (*", m.Output.GoIdent,
			", error)")
	}
	g.p("}")
	g.p()
	g.p("// Register", s.GoName, " registers the code of the sagas of ", s.Desc.FullName(), ".")
	g.deprecation(deprecatedService(s.Service))
	g.p("func Register", s.GoName, "(r ", sagaPackage.Ident("Registrar"), ", code ", s.GoName, ") {")
	for _, m := range s.sagas {
		g.p(sagaPackage.Ident("Register"), "(r, ", g.fullMethod(m.Method), ", code.", m.GoName, ")")
	}
	g.p("}")
	g.p()
}

// fullMethod returns the constant with the method's name that protoc-gen-go-grpc generates.
func (g *generator) fullMethod(m *protogen.Method) protogen.GoIdent {
	return g.names.file.GoImportPath.Ident(m.Parent.GoName + "_" + m.GoName + "_FullMethodName")
}
