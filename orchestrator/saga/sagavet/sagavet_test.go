package sagavet_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/treatyhq/treaty/orchestrator/saga/sagavet"
)

// root is the module's folder. The sagas in testdata belong to the module, so that they are compiled with the real
// package saga and with contracts that protoc-gen-go-treaty has generated.
const root = "../../.."

// TestMistakes checks that each mistake of the sagas in testdata is found where a comment wants it, and nothing else.
// The sagas in fine have none.
func TestMistakes(t *testing.T) {
	const sagas = "./orchestrator/saga/sagavet/testdata/"
	analysistest.Run(findings{t}, root, sagavet.Analyzer,
		sagas+"outside", sagas+"maps", sagas+"state", sagas+"contexts", sagas+"failing", sagas+"order", sagas+"shared",
		sagas+"follow", sagas+"allowed", sagas+"fine")
}

// findings is a test that is about what the analyzer finds, and not about the facts that it keeps for itself.
type findings struct{ *testing.T }

// Errorf fails the test, except for a fact.
func (f findings) Errorf(format string, arguments ...any) {
	f.Helper()
	if text := fmt.Sprintf(format, arguments...); !strings.Contains(text, "unexpected fact: ") {
		f.Error(text)
	}
}
