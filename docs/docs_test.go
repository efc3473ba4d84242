package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestExamplesAreReal compares the code blocks in the documentation with the source files that they name, which are
// compiled and tested. Each block of code that names a file must be part of that file verbatim, and each one in the
// README must name a file.
func TestExamplesAreReal(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../README.md")
	block := regexp.MustCompile("(?s)(?:<!-- file: ([^ ]+) -->\n)?```(go|proto|ts|python|json)\n(.*?)```")
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
					t.Errorf("%s: a code block doesn't name its source file:\n%s", page, code)
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
				t.Errorf("%s: the code block is no longer in %s:\n%s", page, file, code)
			}
		}
	}
	if found == 0 {
		t.Error("no code block names a file; check the pattern")
	}
}

// TestLinksResolve checks that each relative link between the pages leads to a file, and to a heading of it if the link
// names one.
func TestLinksResolve(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	adrs, err := filepath.Glob("adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, adrs...), "../README.md", "../CHANGELOG.md")
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			target, anchor := page, match[2]
			if match[1] != "" {
				target = filepath.Join(filepath.Dir(page), match[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s links to %s#%s, but there is no such heading", page, match[1], anchor)
			}
		}
	}
}

// anchors returns the anchors of a page's headings, as they are made on GitHub. Headings have no links and no accents.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped := regexp.MustCompile(`[^a-z0-9_ -]`)
	var found []string
	for _, match := range heading.FindAllStringSubmatch(string(text), -1) {
		anchor := dropped.ReplaceAllString(strings.ToLower(match[1]), "")
		found = append(found, strings.ReplaceAll(anchor, " ", "-"))
	}
	return found
}
