package gen

import (
	"fmt"
	"go/token"
	"go/types"
	"maps"
	"slices"

	"google.golang.org/protobuf/compiler/protogen"
)

// imports gives each imported package its own name where that is free, so that generated code reads as if written by hand.
// (protogen names a package after the last part of its path, which is "v1" for all of them.)
type imports struct {
	declared map[protogen.GoImportPath]protogen.GoPackageName // of the files that the plugin knows
	names    map[protogen.GoImportPath]string                 // of what is imported
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

// name returns the name by which a package is imported.
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

// taken tells whether a package is imported by a name.
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

// paths returns what is imported, in order.
func (i *imports) paths() []protogen.GoImportPath {
	return slices.Sorted(maps.Keys(i.names))
}
