package docs_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

var (
	named    = regexp.MustCompile("((?:`Test[A-Za-z]+`(?:, | and )?)+) in `([^`]+)`")
	testName = regexp.MustCompile("`(Test[A-Za-z]+)`")
)

// TestNamedTestsExist checks that each test that a page names is in the file that the page names with it: "`TestA` and
// `TestB` in `a_test.go`".
func TestNamedTestsExist(t *testing.T) {
	for _, page := range []string{"reliability.md", "mistakes.md", "security.md"} {
		t.Run(page, func(t *testing.T) {
			text := strings.Join(strings.Fields(read(t, page)), " ")
			held := make(map[string]bool)
			for _, match := range named.FindAllStringSubmatch(text, -1) {
				source, err := os.ReadFile(filepath.Join(root, match[2]))
				if err != nil {
					t.Error(err)
					continue
				}
				for _, name := range testName.FindAllStringSubmatch(match[1], -1) {
					held[name[1]] = true
					if !strings.Contains(string(source), "func "+name[1]+"(t *testing.T) {") {
						t.Errorf("%s isn't in %s", name[1], match[2])
					}
				}
			}
			for _, name := range testName.FindAllStringSubmatch(text, -1) {
				if !held[name[1]] {
					t.Errorf("the page doesn't say in which file %s is", name[1])
				}
			}
			if len(held) == 0 {
				t.Error("the page names no test; check the pattern")
			}
		})
	}
}

// TestMistakesAreCaught checks that each row of the page on mistakes says what becomes of the mistake in the page's own
// words, and names a test if it is caught. Ids of contract rules and of the analyzer's checks exist.
func TestMistakesAreCaught(t *testing.T) {
	caught := map[string]bool{
		"impossible": false, "avoid": false,
		"generator": true, "analyzer": true, "test": true, "start": true, "run": true,
	}
	checks := read(t, filepath.Join(root, "orchestrator/saga/sagavet/doc.go"))
	verdict := regexp.MustCompile(`\*\*([a-z]+)\*\*(?: \(([^)]+)\))?`)
	seen := make(map[string]int)
	for line := range strings.Lines(read(t, "mistakes.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 || cells[0] == " mistake" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		words := verdict.FindAllStringSubmatch(cells[1], -1)
		if len(words) == 0 {
			t.Errorf("what becomes of the mistake%s? %q", cells[0], cells[1])
		}
		for _, word := range words {
			needsTest, known := caught[word[1]]
			seen[word[1]]++
			if !known || needsTest && !named.MatchString(cells[2]) {
				t.Errorf("the mistake%s is said to become %q, without a test or in an unknown word", cells[0], word[1])
			}
			for id := range strings.SplitSeq(strings.ReplaceAll(word[2], "`", ""), ", ") {
				switch word[1] {
				case "generator":
					example := filepath.Join(root, "orchestrator/contract/testdata/rules", id+".proto")
					if _, err := os.Stat(example); err != nil {
						t.Errorf("there is no contract rule %q", id)
					}
				case "analyzer":
					if !strings.Contains(checks, "//   - "+id+": ") {
						t.Errorf("the analyzer has no check %q", id)
					}
				}
			}
		}
	}
	if words := slices.Sorted(maps.Keys(seen)); len(words) != len(caught) {
		t.Errorf("the page uses the words %q only; check the pattern", words)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
