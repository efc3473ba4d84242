package hostile

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// The headers that gRPC itself needs.
const (
	pathField    = ":path"
	statusField  = ":status"
	typeField    = "content-type"
	grpcStatus   = "grpc-status"
	grpcMessage  = "grpc-message"
	binarySuffix = "-bin"
)

// Call is one stream that a client opened: an attempt of a call, as seen on the wire. A repeated attempt, even one that
// gRPC repeats by itself, is another Call.
type Call struct {
	// Number counts the calls of the middle, from 1.
	Number int

	// PerMethod counts the calls of the method, from 1.
	PerMethod int

	// Connection counts the client's connections, from 1.
	Connection int

	// Method is the full method, e.g. "/acme.card.v1.CardService/IssueCard".
	Method string

	// Metadata are the request's headers, without those that start with a colon. Values of keys that end in "-bin" are
	// decoded. It must not be changed.
	Metadata metadata.MD
}

// newCall reads the headers of a request.
func newCall(fields []hpack.HeaderField) Call {
	call := Call{Metadata: make(metadata.MD)}
	for _, field := range fields {
		switch {
		case field.Name == pathField:
			call.Method = field.Value
		case !field.IsPseudo():
			call.Metadata.Append(field.Name, decodeValue(field))
		}
	}
	return call
}

// decodeValue returns a header's value as package metadata does. What isn't base64 stays as it is.
func decodeValue(field hpack.HeaderField) string {
	if strings.HasSuffix(field.Name, binarySuffix) {
		if decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(field.Value, "=")); err == nil {
			return string(decoded)
		}
	}
	return field.Value
}

// without returns the fields without some keys.
func without(fields []hpack.HeaderField, keys []string) []hpack.HeaderField {
	var kept []hpack.HeaderField
	for _, field := range fields {
		if !contains(keys, field.Name) {
			kept = append(kept, field)
		}
	}
	return kept
}

func contains(keys []string, name string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return strings.EqualFold(key, name) })
}

// value returns the first value of a field, or an empty string.
func value(fields []hpack.HeaderField, name string) string {
	for _, field := range fields {
		if field.Name == name {
			return field.Value
		}
	}
	return ""
}

// grpcHeaders are the headers that start every gRPC answer.
func grpcHeaders() []hpack.HeaderField {
	return []hpack.HeaderField{{Name: statusField, Value: "200"}, {Name: typeField, Value: "application/grpc"}}
}

// statusFields are the trailers of a gRPC status.
func statusFields(code codes.Code, message string) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: grpcStatus, Value: strconv.Itoa(int(code))}}
	if message != "" {
		fields = append(fields, hpack.HeaderField{Name: grpcMessage, Value: percentEncode(message)})
	}
	return fields
}

// metadataFields encodes metadata as headers.
func metadataFields(md metadata.MD) []hpack.HeaderField {
	var fields []hpack.HeaderField
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, binarySuffix) {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			fields = append(fields, hpack.HeaderField{Name: strings.ToLower(key), Value: value})
		}
	}
	return fields
}

// percentEncode encodes a status message as gRPC demands.
func percentEncode(message string) string {
	const digits = "0123456789ABCDEF"
	var encoded strings.Builder
	for _, b := range []byte(message) {
		if b >= ' ' && b <= '~' && b != '%' {
			encoded.WriteByte(b)
			continue
		}
		encoded.Write([]byte{'%', digits[b>>4], digits[b&15]})
	}
	return encoded.String()
}
