package gen

import (
	"fmt"
	"go/token"
	"go/types"
	"maps"
	"slices"

	"google.golang.org/protobuf/compiler/protogen"
)

// imports adds an import of each package under its declared name if that is free, so that generated code reads as if
// written by hand. (protogen would name packages after the last part of their paths, which is "v1" for all of them.)
type imports struct {
	declared map[protogen.GoImportPath]protogen.GoPackageName // declared in the files that the plugin received
	names    map[protogen.GoImportPath]string                 // of the imported packages
}

func newImports(plugin *protogen.Plugin) *imports {
	i := &imports{
		declared: map[protogen.GoImportPath]protogen.GoPackageName{sagaPackage: "saga"},
		names:    make(map[protogen.GoImportPath]string),
	}
	for _, file := range plugin.Files {
		i.declared[file.GoImportPath] = file.GoPackageName
	}
	i.name(sagaPackage)
	return i
}

// locals are the names of the parameters and variables of generated functions.
var locals = []string{"ctx", "in", "out", "err", "r", "code", "options"}

// name returns the name under which a package is imported.
func (i *imports) name(path protogen.GoImportPath) string {
	if name, ok := i.names[path]; ok {
		return name
	}
	declared := string(i.declared[path])
	name := declared
	if !i.free(name) {
		name = declared + "pb"
	}
	for n := 2; !i.free(name); n++ {
		name = fmt.Sprint(declared, "pb", n)
	}
	i.names[path] = name
	return name
}

func (i *imports) free(name string) bool {
	if token.IsKeyword(name) || types.Universe.Lookup(name) != nil || slices.Contains(locals, name) {
		return false
	}
	return !i.taken(name)
}

// taken reports whether a package is imported under a name.
func (i *imports) taken(name string) bool {
	for _, taken := range i.names {
		if taken == name {
			return true
		}
	}
	return false
}

// ident returns a name with its package.
func (i *imports) ident(ident protogen.GoIdent) string {
	return i.name(ident.GoImportPath) + "." + ident.GoName
}

// paths returns the imported packages, in order.
func (i *imports) paths() []protogen.GoImportPath {
	return slices.Sorted(maps.Keys(i.names))
}
