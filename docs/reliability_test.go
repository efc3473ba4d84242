package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTestsExist checks that each test that the page on reliability names is in the file that it names: "`TestA`
// and `TestB` in `a_test.go`".
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(text)), " ")
	named := regexp.MustCompile("((?:`Test[A-Za-z]+`(?:, | and )?)+) in `([^`]+)`")
	test := regexp.MustCompile("`(Test[A-Za-z]+)`")
	held := make(map[string]bool)
	for _, match := range named.FindAllStringSubmatch(page, -1) {
		source, err := os.ReadFile(filepath.Join("..", match[2]))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range test.FindAllStringSubmatch(match[1], -1) {
			held[name[1]] = true
			if !strings.Contains(string(source), "func "+name[1]+"(t *testing.T) {") {
				t.Errorf("%s isn't in %s", name[1], match[2])
			}
		}
	}
	for _, name := range test.FindAllStringSubmatch(page, -1) {
		if !held[name[1]] {
			t.Errorf("the page doesn't say in which file %s is", name[1])
		}
	}
	if len(held) == 0 {
		t.Error("the page names no test; check the pattern")
	}
}
