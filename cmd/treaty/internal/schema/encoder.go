package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// redacted replaces the value of every field marked debug_redact.
const redacted = "[redacted]"

// maxDepth is how deep messages may nest. A deeper message is written as "[too deep]".
const maxDepth = 100

// Encoder writes messages as JSON, by protobuf's JSON mapping with four differences. A field marked debug_redact has
// the value "[redacted]". An Any of an unknown type has "@size" instead of its fields. Unknown fields are left out. The
// same message always gives the same bytes.
type Encoder struct {
	schema *Schema

	// payload, if not nil, returns the type of the serialized message in a bytes field; nil means that the type isn't
	// known. It returns false for a field with plain bytes.
	payload func(field protoreflect.FieldDescriptor) (payloadType protoreflect.MessageDescriptor, holds bool)
}

// NewEncoder makes an encoder that finds types in a schema.
func NewEncoder(schema *Schema) *Encoder { return &Encoder{schema: schema} }

// Encode returns a message as compact JSON.
func (e *Encoder) Encode(message proto.Message) json.RawMessage {
	var out bytes.Buffer
	e.message(&out, message.ProtoReflect(), maxDepth)
	return out.Bytes()
}

// EncodeAny returns the message in an Any as compact JSON without its type. It returns false if the type isn't known or
// the message is invalid.
func (e *Encoder) EncodeAny(value *anypb.Any) (json.RawMessage, bool) {
	message, ok := e.open(value.GetTypeUrl(), value.GetValue())
	if !ok {
		return nil, false
	}
	var out bytes.Buffer
	e.message(&out, message, maxDepth)
	return out.Bytes(), true
}

// EncodeBytes returns a serialized message as compact JSON without its type. It returns false if descriptor is nil or
// the message is invalid.
func (e *Encoder) EncodeBytes(descriptor protoreflect.MessageDescriptor, raw []byte) (json.RawMessage, bool) {
	message, ok := e.decode(descriptor, raw)
	if !ok {
		return nil, false
	}
	var out bytes.Buffer
	e.message(&out, message, maxDepth)
	return out.Bytes(), true
}

func (e *Encoder) open(url string, raw []byte) (protoreflect.Message, bool) {
	descriptor, err := e.schema.Message(TypeName(url))
	if err != nil {
		return nil, false
	}
	return e.decode(descriptor, raw)
}

func (e *Encoder) decode(descriptor protoreflect.MessageDescriptor, raw []byte) (protoreflect.Message, bool) {
	if descriptor == nil {
		return nil, false
	}
	message := dynamicpb.NewMessage(descriptor)
	if err := (proto.UnmarshalOptions{Resolver: e.schema, AllowPartial: true}).Unmarshal(raw, message); err != nil {
		return nil, false
	}
	return message, true
}

func (e *Encoder) message(out *bytes.Buffer, message protoreflect.Message, depth int) {
	if depth == 0 {
		out.WriteString(`"[too deep]"`)
		return
	}
	if message.Descriptor().FullName() == "google.protobuf.Any" {
		fields := message.Descriptor().Fields()
		e.any(out, message.Get(fields.ByNumber(1)).String(), message.Get(fields.ByNumber(2)).Bytes(), depth)
		return
	}
	if special, ok := wellKnown(message); ok {
		out.Write(special)
		return
	}
	out.WriteByte('{')
	e.fields(out, message, depth)
	out.WriteByte('}')
}

// any writes an Any, which may contain another one.
func (e *Encoder) any(out *bytes.Buffer, url string, raw []byte, depth int) {
	out.WriteString(`{"@type":`)
	writeString(out, url)
	e.opened(out, url, raw, depth)
	out.WriteByte('}')
}

func (e *Encoder) opened(out *bytes.Buffer, url string, raw []byte, depth int) {
	message, ok := e.open(url, raw)
	if !ok {
		fmt.Fprintf(out, `,"@size":%d`, len(raw))
		return
	}
	if _, special := wellKnown(message); special || message.Descriptor().FullName() == "google.protobuf.Any" {
		out.WriteString(`,"value":`)
		e.message(out, message, depth-1)
		return
	}
	inner := new(bytes.Buffer)
	e.fields(inner, message, depth-1)
	if inner.Len() > 0 {
		out.WriteByte(',')
		out.Write(inner.Bytes())
	}
}

func (e *Encoder) fields(out *bytes.Buffer, message protoreflect.Message, depth int) {
	fields := message.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		field := fields.Get(i)
		if !message.Has(field) {
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		writeString(out, field.JSONName())
		out.WriteByte(':')
		switch {
		case isRedacted(field):
			writeString(out, redacted)
		case field.IsMap():
			e.mapping(out, field, message.Get(field).Map(), depth)
		case field.IsList():
			e.list(out, field, message.Get(field).List(), depth)
		default:
			e.value(out, field, message.Get(field), depth)
		}
	}
}

func (e *Encoder) mapping(out *bytes.Buffer, field protoreflect.FieldDescriptor, values protoreflect.Map, depth int) {
	keys := make([]protoreflect.MapKey, 0, values.Len())
	values.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	out.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			out.WriteByte(',')
		}
		writeString(out, key.String())
		out.WriteByte(':')
		if isRedacted(field.MapValue()) {
			writeString(out, redacted)
			continue
		}
		e.value(out, field.MapValue(), values.Get(key), depth)
	}
	out.WriteByte('}')
}

func (e *Encoder) list(out *bytes.Buffer, field protoreflect.FieldDescriptor, values protoreflect.List, depth int) {
	out.WriteByte('[')
	for i := range values.Len() {
		if i > 0 {
			out.WriteByte(',')
		}
		e.value(out, field, values.Get(i), depth)
	}
	out.WriteByte(']')
}

func (e *Encoder) value(out *bytes.Buffer, field protoreflect.FieldDescriptor, value protoreflect.Value, depth int) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		e.message(out, value.Message(), depth-1)
	case protoreflect.BytesKind:
		e.bytes(out, field, value.Bytes(), depth)
	case protoreflect.StringKind:
		writeString(out, value.String())
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			writeString(out, string(known.Name()))
			return
		}
		out.WriteString(strconv.Itoa(int(value.Enum())))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		writeString(out, value.String())
	case protoreflect.FloatKind:
		writeFloat(out, value.Float(), 32)
	case protoreflect.DoubleKind:
		writeFloat(out, value.Float(), 64)
	default:
		out.WriteString(value.String()) // bool and the 32-bit integers
	}
}

// bytes writes plain bytes in base64, and a serialized message like an Any.
func (e *Encoder) bytes(out *bytes.Buffer, field protoreflect.FieldDescriptor, raw []byte, depth int) {
	if e.payload != nil {
		if descriptor, holds := e.payload(field); holds {
			if descriptor == nil {
				fmt.Fprintf(out, `{"@size":%d}`, len(raw))
				return
			}
			e.any(out, "type.googleapis.com/"+string(descriptor.FullName()), raw, depth)
			return
		}
	}
	writeString(out, base64.StdEncoding.EncodeToString(raw))
}

// isRedacted reports whether a field must never be shown.
func isRedacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// wellKnown returns the JSON of a message that protobuf's mapping treats specially. It returns false for any other
// message, and for a value out of range, which is written by its fields.
func wellKnown(message protoreflect.Message) (json.RawMessage, bool) {
	switch message.Descriptor().FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask",
		"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue",
		"google.protobuf.BoolValue", "google.protobuf.StringValue", "google.protobuf.BytesValue",
		"google.protobuf.Int32Value", "google.protobuf.Int64Value",
		"google.protobuf.UInt32Value", "google.protobuf.UInt64Value",
		"google.protobuf.FloatValue", "google.protobuf.DoubleValue":
	default:
		return nil, false
	}
	raw, err := protojson.Marshal(message.Interface())
	if err != nil {
		return nil, false
	}
	// protojson varies its white space on purpose.
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, false
	}
	return out.Bytes(), true
}

func writeString(out *bytes.Buffer, text string) {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	// Encoding a string into a buffer can't fail.
	_ = encoder.Encode(text)
	out.Truncate(out.Len() - 1)
}

func writeFloat(out *bytes.Buffer, value float64, bits int) {
	switch {
	case math.IsNaN(value):
		out.WriteString(`"NaN"`)
	case math.IsInf(value, 1):
		out.WriteString(`"Infinity"`)
	case math.IsInf(value, -1):
		out.WriteString(`"-Infinity"`)
	default:
		out.WriteString(strconv.FormatFloat(value, 'g', -1, bits))
	}
}
