package houserules

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

// A link in a page to another file of the repository leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(file, entry.Name())
		}
		if !strings.HasSuffix(file, ".md") {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, link := range markdownLink.FindAllStringSubmatch(string(content), -1) {
			if strings.Contains(link[1], ":") {
				continue // a link to another site
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), filepath.FromSlash(link[1]))); err != nil {
				t.Errorf("%s links to %s, which doesn't exist", strings.TrimPrefix(file, root+"/"), link[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the pages: %v", err)
	}
}
