package scaffold

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/proto"
)

const (
	// treaty is the module that the project requires.
	treaty = "github.com/treatyhq/treaty"

	// placeholder is the module of the project in the folder template.
	placeholder = "example.com/shop"

	// MinGo is the version of Go that the project needs, and that its go.mod names.
	MinGo = "1.26.8"
)

//go:embed all:template
var template embed.FS

// Params say what to write.
type Params struct {
	// Dir is the folder of the project. It is made if it doesn't exist. Default the current folder.
	Dir string

	// Module is the path of the project's module. Default: that of the go.mod in Dir or above, with the path of Dir
	// below it, or example.com/ and the name of Dir.
	Module string

	// Replace is the folder of a checkout of Treaty, which the project uses instead of a release. Default none.
	Replace string

	// Version is the version of Treaty that the project requires, such as "v0.3.0". It may be unknown ("devel") if
	// Replace is set, or if there is a go.mod.
	Version string

	// Revision is the commit of the checkout from which this program was built. Empty: it wasn't built from one, so
	// that Version can be downloaded.
	Revision string
}

// Project is what was written.
type Project struct {
	// Dir is the absolute path of the folder.
	Dir string

	// Module is the path of the package in Dir.
	Module string

	// Files are the paths of the files in Dir, sorted, with slashes.
	Files []string

	// Require are the commands that make an existing go.mod require Treaty. It is empty if the project has a go.mod of
	// its own.
	Require []string
}

// Error is a reason not to write anything.
type Error struct {
	// Message says what is wrong, in one sentence without a period.
	Message string

	// Hints say what to do, each in a sentence.
	Hints []string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func fail(hint, format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Hints: []string{hint}}
}

// Write writes a project, or nothing. It returns an *Error if the folder holds something already, if the module has no
// valid name, or if Go is missing or too old. It runs the go command to find that out.
func Write(ctx context.Context, params Params) (*Project, error) {
	dir, err := filepath.Abs(params.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder: %w", err)
	}
	if err := checkEmpty(dir); err != nil {
		return nil, err
	}
	found, err := findModule(ctx, dir)
	if err != nil {
		return nil, err
	}
	project := &Project{Dir: dir, Module: found.path}
	switch {
	case found.path == "":
		project.Module = params.Module
		if params.Module == "" {
			project.Module = "example.com/" + strings.ToLower(filepath.Base(dir))
		}
	case params.Module != "" && params.Module != found.path:
		return nil, fail("Leave --module out.", "--module is %s, but the folder belongs to the module of %s, and its "+
			"path is %s", params.Module, found.file, found.path)
	}
	if !validPath.MatchString(project.Module) {
		return nil, fail("Name it with --module, such as --module example.com/shop.",
			"%q is no path of a module: use letters, digits and - . _ ~ between slashes", project.Module)
	}
	replace, err := checkReplace(params, found)
	if err != nil {
		return nil, err
	}
	files, err := render(project.Module)
	if err != nil {
		return nil, err
	}
	if found.path == "" {
		files["go.mod"] = goMod(project.Module, params.Version, replace)
	} else {
		project.Require = requireCommands(params.Version, replace)
	}
	for name := range files {
		project.Files = append(project.Files, name)
	}
	slices.Sort(project.Files)
	return project, writeAll(dir, files)
}

// validPath matches the path of a module or package.
var validPath = regexp.MustCompile(`^[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// harmless are the names of what may be in the folder already.
var harmless = []string{".git", "go.mod", "go.sum", "LICENSE", "LICENSE.txt", "LICENSE.md"}

// checkEmpty returns an error if the folder holds something that could be overwritten or taken for a part of the
// project.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return fail("Name a folder that doesn't exist yet, or an empty one.", "%s is a file", dir)
		}
		return fmt.Errorf("reading the folder: %w", err)
	}
	const most = 5
	var there []string
	for _, entry := range entries {
		if !slices.Contains(harmless, entry.Name()) {
			there = append(there, entry.Name())
		}
	}
	if len(there) == 0 {
		return nil
	}
	if more := len(there) - most; more > 0 {
		there = append(there[:most], fmt.Sprintf("%d more", more))
	}
	return fail("Name a folder that doesn't exist yet, or an empty one. There may be "+strings.Join(harmless[:4], ", ")+
		" in it.", "%s isn't empty: it has %s", dir, strings.Join(there, ", "))
}

// module is the module that a folder belongs to.
type module struct {
	file string // its go.mod; empty if there is none
	path string // the path of the package in the folder
}

// findModule asks the go command which module a folder belongs to, and whether Go is new enough.
func findModule(ctx context.Context, dir string) (module, error) {
	from := dir
	for {
		if info, err := os.Stat(from); err == nil && info.IsDir() {
			break
		}
		from = filepath.Dir(from)
	}
	out, err := goCommand(ctx, from, "env", "GOVERSION", "GOMOD")
	if err != nil {
		return module{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) == 0 || version.Compare(lines[0], "go"+MinGo) < 0 && version.IsValid(lines[0]) {
		return module{}, fail("Install a newer Go, or let it download one: go env -w GOTOOLCHAIN=auto.",
			"Go is too old: it is %s, and the project needs go%s", lines[0], MinGo)
	}
	if len(lines) < 2 || lines[1] == "" || lines[1] == os.DevNull {
		return module{}, nil
	}
	file := lines[1]
	out, err = goCommand(ctx, from, "mod", "edit", "-json", file)
	if err != nil {
		return module{}, err
	}
	var read struct {
		Module struct {
			Path string `json:"Path"`
		} `json:"Module"`
		Go string `json:"Go"`
	}
	if err := json.Unmarshal(out, &read); err != nil {
		return module{}, fmt.Errorf("reading %s: %w", file, err)
	}
	if read.Module.Path == "" {
		return module{}, fail("Add a line such as \"module example.com/shop\" to it.", "%s doesn't name its module",
			file)
	}
	if needs := "go" + read.Go; read.Go != "" && version.IsValid(lines[0]) && version.Compare(lines[0], needs) < 0 {
		return module{}, fail("Install a newer Go, or let it download one: go env -w GOTOOLCHAIN=auto.",
			"%s needs %s, but Go is %s", file, needs, lines[0])
	}
	below, err := filepath.Rel(filepath.Dir(file), dir)
	if err != nil {
		return module{}, fmt.Errorf("finding the folder in its module: %w", err)
	}
	return module{file: file, path: path.Join(read.Module.Path, filepath.ToSlash(below))}, nil
}

// goCommand runs the go command in a folder, and returns what it prints.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fail("Install Go "+MinGo+" or newer, and add it to the PATH.", "the go command isn't there")
	case err != nil:
		return nil, fail("Mend that, and try again.", "go %s in %s failed: %s", strings.Join(args, " "), dir,
			strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// checkReplace returns the absolute path of the checkout that replaces the release, or nothing.
func checkReplace(params Params, found module) (string, error) {
	if params.Replace == "" {
		local := params.Revision != "" && ofCommit.MatchString(params.Version)
		if found.path == "" && (local || !released.MatchString(params.Version)) {
			return "", fail("Name a checkout with --replace DIR, or install a release: go install "+treaty+
				"/cmd/treaty@latest.", "this program was built from source (%s), so there is no release to require",
				params.Version)
		}
		return "", nil
	}
	dir, err := filepath.Abs(params.Replace)
	if err != nil {
		return "", fmt.Errorf("finding --replace: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !regexp.MustCompile(`(?m)^module `+regexp.QuoteMeta(treaty)+`$`).Match(data) {
		return "", fail("Name the folder whose go.mod begins with \"module "+treaty+"\".",
			"--replace %s is no checkout of Treaty", params.Replace)
	}
	return dir, nil
}

// released matches a version that can be required, of a release or of a commit.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// ofCommit matches the version of a commit, which nobody else may have if this program was built from a checkout.
var ofCommit = regexp.MustCompile(`-(.*\.)?\d{14}-[0-9a-f]{12}$`)

// render returns the files of the project, by path.
func render(modulePath string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := fs.WalkDir(template, "template", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := template.ReadFile(name)
		name = strings.TrimSuffix(strings.TrimPrefix(name, "template/"), ".tmpl")
		if name == "gitignore" {
			name = ".gitignore"
		}
		files[name] = bytes.ReplaceAll(data, []byte(placeholder), []byte(modulePath))
		return err
	})
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(proto.Sources, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files["third_party/"+name], err = proto.Sources.ReadFile(name)
		return err
	})
	return files, err
}

// unreleased is the version of a module that is replaced.
const unreleased = "v0.0.0-00010101000000-000000000000"

func goMod(modulePath, version, replace string) []byte {
	if replace == "" {
		return fmt.Appendf(nil, "module %s\n\ngo %s\n\nrequire %s %s\n", modulePath, MinGo, treaty, version)
	}
	return fmt.Appendf(nil, "module %s\n\ngo %s\n\nrequire %s %s\n\nreplace %s => %s\n", modulePath, MinGo, treaty,
		unreleased, treaty, replace)
}

func requireCommands(version, replace string) []string {
	switch {
	case replace != "":
		return []string{
			"go mod edit -replace=" + treaty + "=" + replace,
			"go mod edit -require=" + treaty + "@" + unreleased,
		}
	case released.MatchString(version):
		return []string{"go get " + treaty + "@" + version}
	default:
		return []string{"go get " + treaty + "@latest"}
	}
}
