package reflection

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// IsCombined reports whether a file seems to be made by the server reflection for Node, @grpc/reflection. That makes
// one file of each package, without imports and without the options of methods. If the service spells fields in camel
// case, so does the file.
func IsCombined(file protoreflect.FileDescriptor) bool {
	return isCombined(file.Path(), string(file.Package()))
}

func isCombined(path, pkg string) bool { return path == strings.ReplaceAll(pkg, ".", "_")+".proto" }

// complete adds to a combined file what it lacks: its imports, the packages of the types that it names, and the names
// of map entries. It takes them from the received files, and those of protobuf itself from this program.
func (c *Client) complete(file *descriptorpb.FileDescriptorProto) {
	if !isCombined(file.GetName(), file.GetPackage()) {
		return
	}
	types := make(map[string]string)
	for path, received := range c.received {
		index(types, path, received.GetPackage(), received.GetMessageType(), received.GetEnumType())
	}
	use := func(scope string, name *string) {
		if name == nil {
			return
		}
		full, path := resolve(types, scope, *name)
		if path == "" {
			return
		}
		*name = "." + full
		if path != file.GetName() && !slices.Contains(file.GetDependency(), path) {
			file.Dependency = append(file.Dependency, path)
		}
	}
	var messages func(scope string, all []*descriptorpb.DescriptorProto)
	messages = func(scope string, all []*descriptorpb.DescriptorProto) {
		for _, message := range all {
			inner := joinName(scope, message.GetName())
			nameMapEntries(inner, message)
			for _, field := range message.GetField() {
				use(inner, field.TypeName)
			}
			messages(inner, message.GetNestedType())
		}
	}
	messages(file.GetPackage(), file.GetMessageType())
	for _, extension := range file.GetExtension() {
		use(file.GetPackage(), extension.TypeName)
		use(file.GetPackage(), extension.Extendee)
	}
	for _, service := range file.GetService() {
		for _, method := range service.GetMethod() {
			use(file.GetPackage(), method.InputType)
			use(file.GetPackage(), method.OutputType)
		}
	}
}

// nameMapEntries gives the messages that hold the entries of maps the names that protobuf expects.
func nameMapEntries(scope string, message *descriptorpb.DescriptorProto) {
	for _, field := range message.GetField() {
		for _, entry := range message.GetNestedType() {
			if !entry.GetOptions().GetMapEntry() || field.GetTypeName() != entry.GetName() {
				continue
			}
			name := mapEntryName(field.GetName())
			typeName := "." + joinName(scope, name)
			entry.Name, field.TypeName = &name, &typeName
		}
	}
}

// mapEntryName returns the name of the message that holds the entries of a map: "TagsByShelfEntry" for tags_by_shelf.
func mapEntryName(field string) string {
	var out strings.Builder
	for part := range strings.SplitSeq(field, "_") {
		if part != "" {
			out.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return out.String() + "Entry"
}

// index adds the paths of the files in which types are, by their full names.
func index(
	types map[string]string, path, scope string, messages []*descriptorpb.DescriptorProto,
	enums []*descriptorpb.EnumDescriptorProto,
) {
	for _, enum := range enums {
		types[joinName(scope, enum.GetName())] = path
	}
	for _, message := range messages {
		name := joinName(scope, message.GetName())
		types[name] = path
		index(types, path, name, message.GetNestedType(), message.GetEnumType())
	}
}

// resolve returns the full name of a type that is named in a scope, and the path of its file. The path is empty if the
// type isn't known.
func resolve(types map[string]string, scope, name string) (full, path string) {
	find := func(full string) string {
		if path := types[full]; path != "" {
			return path
		}
		if builtIn, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(full)); err == nil &&
			strings.HasPrefix(full, "google.protobuf.") {
			return builtIn.ParentFile().Path()
		}
		return ""
	}
	if full, ok := strings.CutPrefix(name, "."); ok {
		return full, find(full)
	}
	for {
		full = joinName(scope, name)
		if path := find(full); path != "" || scope == "" {
			return full, path
		}
		scope = scope[:max(0, strings.LastIndexByte(scope, '.'))]
	}
}

func joinName(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}
