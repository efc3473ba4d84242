package houserules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// wireNames matches a literal with which code builds or parses the name of a saga, step or record: a prefix or an
// infix, on its own or before a verb of package fmt. It doesn't match a whole name.
var wireNames = regexp.MustCompile(`^` + wire.SagaPrefix + `(%|$)|/(steps|records)/(%|$)`)

// Only internal/wire writes the keys of the metadata, the parts of names and the reasons of errors. Tests may write
// them as well, to pin the format.
func TestOnlyPackageWireWritesTheWireFormat(t *testing.T) {
	for dir, p := range readModule(t) {
		if matches("gen/...", dir) || dir == "internal/wire" {
			continue
		}
		for _, name := range p.code {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, violation := range wireLiterals(files, file) {
				t.Error(violation)
			}
		}
	}
}

// wireLiterals returns the places in a file that write a part of the wire format as a literal.
func wireLiterals(files *token.FileSet, file *ast.File) []string {
	var found []string
	ast.Inspect(file, func(node ast.Node) bool {
		literal, ok := node.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err == nil && isWireFormat(text) {
			found = append(found, fmt.Sprintf("%s: %s is part of the wire format: use package internal/wire",
				files.Position(literal.Pos()), literal.Value))
		}
		return true
	})
	return found
}

func isWireFormat(text string) bool {
	switch text {
	case wire.SagaKey, wire.CommandIDKey, wire.DirectionKey, wire.AttemptKey, wire.EpochKey, wire.RequestIDKey,
		wire.PendingKey:
		return true
	}
	if _, ok := code.Code_value[text]; ok {
		return false // also the name of a gRPC code, such as INTERNAL
	}
	reason := wire.ParseReason(text) != treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	return reason || strings.HasPrefix(text, "ERROR_REASON_") || wireNames.MatchString(text)
}

func TestWireLiteralsAreFound(t *testing.T) {
	scenarios := []struct {
		name, source string
		want         int
	}{
		{"a metadata key", `var x = "treaty-saga"`, 1},
		{"another header", `var x = "treaty-card"`, 0},
		{"a prefix", "var x = `sagas/` + id", 1},
		{"an infix", `var x = saga + "/steps/" + path`, 1},
		{"a format", `var x = fmt.Sprintf("sagas/%s/steps/%d", saga, step)`, 1},
		{"a format with an infix", `var x = fmt.Sprintf("%s/records/%d", saga, record)`, 1},
		{"an example", `var x = "write sagas/x/steps/2 or sagas/{saga}/steps/{step}"`, 0},
		{"a unit", `var x = "sagas/s"`, 0},
		{"SQL", "var x = `SELECT 'sagas/' || id FROM saga`", 0},
		{"a reason", `var x = reason == "IN_DOUBT"`, 1},
		{"a reason that is also a code", `var x = "INTERNAL"`, 0},
		{"the prefix of the reasons", `var x = "ERROR_REASON_" + reason`, 1},
		{"a comment", "// x is treaty-saga.\nvar x = 1", 0},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, "x.go", "package x\n"+s.source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if found := wireLiterals(files, file); len(found) != s.want {
				t.Errorf("found %q, want %d", found, s.want)
			}
		})
	}
}
