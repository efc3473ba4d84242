package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
)

// inlineJSON is the length of the longest JSON that is written in one line.
const inlineJSON = 100

// typed returns the message in an Any after the name of its type.
func (v *View) typed(value *anypb.Any) []line {
	body := v.payload(value)
	if _, known := v.encoder.EncodeAny(value); known {
		body[0] = append(line{{string(schema.TypeName(value.GetTypeUrl())) + " ", dim}}, body[0]...)
	}
	return body
}

func indented(by int, lines []line) []line {
	out := make([]line, len(lines))
	for i, l := range lines {
		out[i] = append(line{{strings.Repeat(" ", by), plain}}, l...)
	}
	return out
}

// payload returns the message in an Any as at least one line.
func (v *View) payload(value *anypb.Any) []line {
	raw, ok := v.encoder.EncodeAny(value)
	if !ok {
		return []line{text(dim, "%s of the unknown type %s", size(len(value.GetValue())),
			schema.TypeName(value.GetTypeUrl()))}
	}
	return jsonLines(raw)
}

func jsonLines(raw json.RawMessage) []line {
	if len(raw) <= inlineJSON {
		return []line{{{string(raw), plain}}}
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return []line{{{string(raw), plain}}}
	}
	var out []line
	for part := range strings.SplitSeq(indented.String(), "\n") {
		out = append(out, line{{part, plain}})
	}
	return out
}

func size(n int) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	default:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	}
}
