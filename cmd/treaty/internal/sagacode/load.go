package sagacode

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// sagaPackage is the package that saga code imports.
const sagaPackage = "github.com/treatyhq/treaty/orchestrator/saga"

// orchestratorPackages is where the packages are that use package saga and are no saga code.
const orchestratorPackages = "github.com/treatyhq/treaty/orchestrator"

// listed is a package as the go command lists it.
type listed struct {
	ImportPath string   `json:"ImportPath"`
	Name       string   `json:"Name"`
	Dir        string   `json:"Dir"`
	Export     string   `json:"Export"` // a file with the types of the compiled package
	GoFiles    []string `json:"GoFiles"`
	CgoFiles   []string `json:"CgoFiles"`
	Imports    []string `json:"Imports"`
	DepOnly    bool     `json:"DepOnly"` // only others import it
	Standard   bool     `json:"Standard"`
	Module     *module  `json:"Module"`
}

type module struct {
	GoVersion string `json:"GoVersion"`
}

// list lists the packages of a folder and all that they import, imports first. It builds them.
func list(ctx context.Context, dir, pattern string) ([]*listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-export",
		"-json=ImportPath,Name,Dir,Export,GoFiles,CgoFiles,Imports,DepOnly,Standard,Module", "--", pattern)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("the go command isn't there: it reads the code, so install Go")
	case err != nil:
		return nil, fmt.Errorf("the go command can't build it:\n%s",
			cmp.Or(strings.TrimSpace(stderr.String()), err.Error()))
	}
	var packages []*listed
	for decoder := json.NewDecoder(&stdout); ; {
		p := new(listed)
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading what go list prints: %w", err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// program is saga code with its types.
type program struct {
	files    *token.FileSet
	packages []*checked // imports first
	byPath   map[string]*checked
	compiled types.Importer // of the packages whose source isn't needed
}

// checked is a package whose source was read.
type checked struct {
	*listed
	syntax []*ast.File
	types  *types.Package
	info   *types.Info
}

// load reads the source of the packages that use package saga, and checks their types.
func load(packages []*listed) (*program, error) {
	exports := make(map[string]string)
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	out := &program{files: token.NewFileSet(), byPath: make(map[string]*checked)}
	out.compiled = importer.ForCompiler(out.files, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("go list doesn't say where package %s is", path)
		}
		return os.Open(exports[path])
	})
	for _, p := range packages {
		if !out.usesSaga(p) {
			continue
		}
		read, err := out.check(p)
		if err != nil {
			return nil, err
		}
		out.packages = append(out.packages, read)
		out.byPath[p.ImportPath] = read
	}
	return out, nil
}

// usesSaga reports whether a package imports package saga, directly or not, and is no part of the orchestrator.
func (p *program) usesSaga(one *listed) bool {
	if one.ImportPath == orchestratorPackages || strings.HasPrefix(one.ImportPath, orchestratorPackages+"/") {
		return false
	}
	return slices.ContainsFunc(one.Imports, func(path string) bool {
		return path == sagaPackage || p.byPath[path] != nil
	})
}

// check reads a package and checks its types.
func (p *program) check(one *listed) (*checked, error) {
	out := &checked{listed: one, info: &types.Info{
		Types:     make(map[ast.Expr]types.TypeAndValue),
		Defs:      make(map[*ast.Ident]types.Object),
		Uses:      make(map[*ast.Ident]types.Object),
		Instances: make(map[*ast.Ident]types.Instance),
	}}
	for _, name := range slices.Concat(one.GoFiles, one.CgoFiles) {
		file, err := parser.ParseFile(p.files, filepath.Join(one.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("reading package %s: %w", one.ImportPath, err)
		}
		out.syntax = append(out.syntax, file)
	}
	config := types.Config{Importer: p, FakeImportC: true}
	if one.Module != nil && one.Module.GoVersion != "" {
		config.GoVersion = "go" + one.Module.GoVersion
	}
	var err error
	if out.types, err = config.Check(one.ImportPath, p.files, out.syntax, out.info); err != nil {
		return nil, fmt.Errorf("checking the types of package %s, which the go command has compiled: "+
			"if that is newer than the Go that built treaty, build treaty again: %w", one.ImportPath, err)
	}
	return out, nil
}

// Import finds a package for the type checker.
func (p *program) Import(path string) (*types.Package, error) {
	if known := p.byPath[path]; known != nil {
		return known.types, nil
	}
	return p.compiled.Import(path)
}

// place returns where a node is, as FILE:LINE.
func (p *program) place(at token.Pos) string {
	position := p.files.Position(at)
	return fmt.Sprintf("%s:%d", filepath.Base(position.Filename), position.Line)
}
