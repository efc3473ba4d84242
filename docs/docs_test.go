package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestExamplesAreReal holds the code in the documentation against the files that it is from, which are compiled and tested: each Go or
// proto block that names a file stands in that file to the letter, and each in the README names one.
func TestExamplesAreReal(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../README.md")
	block := regexp.MustCompile("(?s)(?:<!-- file: ([^ ]+) -->\n)?```(go|proto)\n(.*?)```")
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range block.FindAllStringSubmatch(string(text), -1) {
			file, code := match[1], match[3]
			if file == "" {
				if page == "../README.md" {
					t.Errorf("%s: an example doesn't say which file it is from:\n%s", page, code)
				}
				continue
			}
			found++
			source, err := os.ReadFile(filepath.Join("..", file))
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if !strings.Contains(string(source), code) {
				t.Errorf("%s: this isn't in %s any more:\n%s", page, file, code)
			}
		}
	}
	if found == 0 {
		t.Error("no example names its file: is the pattern still right?")
	}
}

// TestLinksLead follows the links between the pages.
func TestLinksLead(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	adrs, err := filepath.Glob("adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, adrs...), "../README.md", "../CHANGELOG.md")
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), match[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
			}
		}
	}
}
