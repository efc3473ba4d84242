package sagavet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// TestEveryCheckIsTested checks that each check of the package comment has at least three mistakes in testdata.
func TestEveryCheckIsTested(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	files, err := filepath.Glob("testdata/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	wanted := regexp.MustCompile("\\\\\\(([a-z-]+)\\\\\\)`")
	for _, file := range files {
		sagas, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range wanted.FindAllStringSubmatch(string(sagas), -1) {
			found[match[1]]++
		}
	}
	const least = 3
	checks := regexp.MustCompile(`(?m)^//   - ([a-z-]+): `).FindAllStringSubmatch(string(doc), -1)
	for _, check := range checks {
		if found[check[1]] < least {
			t.Errorf("check %s has %d mistakes in testdata, want at least %d", check[1], found[check[1]], least)
		}
	}
	if len(found) != len(checks)+1 { // and allow, which isn't a check of saga code
		t.Errorf("testdata have mistakes of %d checks, and the package comment has %d", len(found)-1, len(checks))
	}
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
