package gen

import (
	"go/token"
	"go/types"
	"unicode"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// event is a message that saga code can await.
type event struct {
	*protogen.Message
	key *protogen.Field
}

// eventsOf appends to found the events among messages, including nested ones.
func eventsOf(messages []*protogen.Message, found []event) ([]event, error) {
	for _, message := range messages {
		read, err := contract.EventTypeOf(message.Desc)
		if err != nil {
			return nil, err
		}
		if read != nil {
			for _, field := range message.Fields {
				if field.Desc.Number() == read.Key.Number() {
					found = append(found, event{Message: message, key: field})
				}
			}
		}
		if found, err = eventsOf(message.Messages, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// event writes the functions with which saga code awaits an event.
func (g *generator) event(e event) {
	name, message := e.GoIdent.GoName, g.imports.ident(e.GoIdent)
	key := g.argument(e.key) // after the functions' imports have their names
	options, ok := e.Desc.Options().(*descriptorpb.MessageOptions)
	deprecated := ok && options.GetDeprecated()

	g.p("// Await", name, " waits for the next ", name, " with the given ", e.key.Desc.Name(), ".")
	g.p("// With saga.Within, the error wraps saga.ErrTimeout when none arrives in time.")
	g.deprecation(deprecated)
	g.p("func Await", name, "(ctx ", sagaPackage.Ident("Context"), ", ", key, " string, options ...",
		sagaPackage.Ident("WaitOption"), ") (*", message, ", error) {")
	g.p("return ", sagaPackage.Ident("Await"), "(ctx, Next", name, "(", key, "), options...)")
	g.p("}")
	g.p()
	g.p("// Next", name, " returns the next ", name, " with the given ", e.key.Desc.Name(), ", for saga.First.")
	g.p("// saga.NextEvent says which events count.")
	g.deprecation(deprecated)
	g.p("func Next", name, "(", key, " string) *", sagaPackage.Ident("Event"), "[*", message, "] {")
	g.p("return ", sagaPackage.Ident("NextEvent"), "[*", message, "](", key, ")")
	g.p("}")
	g.p()
}

// argument returns a field's name as the name of an argument, in lower camel case. If the name has another meaning, in
// Go or in the function, it appends "Key".
func (g *generator) argument(field *protogen.Field) string {
	name := uncapitalized(field.GoName)
	for token.IsKeyword(name) || types.Universe.Lookup(name) != nil || name == "ctx" || name == "options" ||
		g.imports.taken(name) {
		name += "Key"
	}
	return name
}

// uncapitalized lower-cases the first word of a name: "CardID" becomes "cardID", "ID" becomes "id", "IDCard" becomes
// "idCard".
func uncapitalized(name string) string {
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsUpper(r) || i > 0 && i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
			break
		}
		runes[i] = unicode.ToLower(r)
	}
	return string(runes)
}
