package server

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

const (
	// MaxRequestID is how many characters a request id may have.
	MaxRequestID = 128

	// MaxLabel is how many characters a label's value may have.
	MaxLabel = 256

	// maxDepth is how deep messages in a request may be nested.
	maxDepth = 100
)

// definition is a saga definition that is served.
type definition struct {
	*contract.SagaDefinition
	input protoreflect.MessageType
}

// service is a saga service that is served.
type service struct {
	name        string
	definitions []*definition
}

// served groups the definitions that have code by their service. A service is served whole or not at all.
func served(catalog *contract.Catalog, names []string) ([]service, error) {
	var services []service
	var errs []error
	registered := make(map[string]bool, len(names))
	for _, name := range names {
		if _, known := catalog.SagaDefinition(name); !known {
			errs = append(errs, fmt.Errorf("saga %s has code, but no linked contract defines it: import the package that is generated from its .proto, and register by it", name))
		}
		registered[name] = true
	}
	for saga := range catalog.SagaDefinitions() {
		name, _, _ := strings.Cut(saga.Definition, "/")
		i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
		if i < 0 {
			if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+"/") }) {
				continue
			}
			services = append(services, service{name: name})
			i = len(services) - 1
		}
		if !registered[saga.Definition] {
			errs = append(errs, fmt.Errorf("saga service %s can't be served: %s has no code; register its code too, or move it to another service", name, saga.Definition))
			continue
		}
		services[i].definitions = append(services[i].definitions, &definition{SagaDefinition: saga, input: messageType(saga.Input)})
	}
	return services, errors.Join(errs...)
}

// messageType returns the generated type where it is linked, for it is read faster.
func messageType(message protoreflect.MessageDescriptor) protoreflect.MessageType {
	if generated, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName()); err == nil {
		return generated
	}
	return dynamicpb.NewMessageType(message)
}

// start is what a request says about the saga that it starts.
type start struct {
	requestID string
	labels    map[string]string
}

// unmarshal is how everything that comes in is read.
var unmarshal = proto.UnmarshalOptions{RecursionLimit: maxDepth}

// read checks a request, and takes out what the contract marks in it. A request id given beside it must be the same as the one in it.
func (d *definition) read(request []byte, requestID string) (start, error) {
	message := d.input.New()
	if err := unmarshal.Unmarshal(request, message.Interface()); err != nil {
		return start{}, invalid("request", "can't be read as %s, which %s takes: %s", d.Input.FullName(), d.Definition, readable(err))
	}
	out := start{requestID: requestID}
	if field := d.RequestID; field != nil {
		marked := message.Get(fieldOf(message, field)).String()
		if requestID != "" && requestID != marked {
			return start{}, invalid(string(field.Name()), "is %q, but the request id given beside the request is %q: leave that one out, or make both the same",
				shorten(marked), shorten(requestID))
		}
		out.requestID = marked
	}
	if n := utf8.RuneCountInString(out.requestID); n > MaxRequestID {
		return start{}, invalid("request_id", "has %d characters; at most %d are allowed", n, MaxRequestID)
	}
	for _, field := range d.Labels {
		own := fieldOf(message, field)
		if own.HasPresence() && !message.Has(own) {
			continue
		}
		value := labelOf(own, message.Get(own))
		switch n := utf8.RuneCountInString(value); {
		case n == 0:
			continue
		case n > MaxLabel:
			return start{}, invalid(string(field.Name()), "is a label and has %d characters; at most %d are allowed", n, MaxLabel)
		}
		if out.labels == nil {
			out.labels = make(map[string]string, len(d.Labels))
		}
		out.labels[string(field.Name())] = value
	}
	return out, nil
}

// fieldOf returns the field as the message itself knows it.
func fieldOf(message protoreflect.Message, field protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	return message.Descriptor().Fields().ByNumber(field.Number())
}

// labelOf renders a label's value: numbers in decimal, bools as true and false, enums by name.
func labelOf(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return value.String()
	case protoreflect.BoolKind:
		return strconv.FormatBool(value.Bool())
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			return string(known.Name())
		}
		return strconv.Itoa(int(value.Enum()))
	case protoreflect.FloatKind:
		return strconv.FormatFloat(value.Float(), 'g', -1, 32)
	case protoreflect.DoubleKind:
		return strconv.FormatFloat(value.Float(), 'g', -1, 64)
	default:
		return value.String()
	}
}

// readable strips what protobuf puts before its errors.
func readable(err error) string {
	text := strings.TrimPrefix(err.Error(), "proto:")
	return strings.TrimSpace(strings.ReplaceAll(text, "\u00a0", " "))
}

// Check says which of the saga definitions that have code can't be served, and why: no linked contract has it, or its service has another
// method without code.
func Check(catalog *contract.Catalog, definitions []string) error {
	_, err := served(catalog, definitions)
	return err
}
