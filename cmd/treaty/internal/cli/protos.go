package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/proto"
)

func (a *app) protosCommand() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "protos DIR",
		Short: "Write the protos that contracts import",
		Long: `Write the protos of treaty.v1 into DIR/treaty/v1, where contracts import them as treaty/v1/options.proto.
DIR is the directory of your own protos, a module of buf.yaml for example.

Files that are there already and differ aren't changed: nothing is written then, unless --replace says so.`,
		Args: exact("DIR"),
		RunE: a.run(func(_ context.Context, _ *cobra.Command, args []string) error {
			written, err := writeProtos(args[0], replace)
			if err != nil {
				return err
			}
			for _, path := range written {
				a.print(path + "\n")
			}
			if len(written) == 0 {
				_, _ = fmt.Fprintln(a.Stderr, "All protos are there already.")
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "replace files that differ, which another version has written")
	return cmd
}

// writeProtos writes the protos below a directory, or none of them. It returns the paths of those that it has written:
// those that weren't there, and with replace those that differed.
func writeProtos(dir string, replace bool) (written []string, err error) {
	missing := make(map[string][]byte)
	var order, differing []string
	err = fs.WalkDir(proto.Sources, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := proto.Sources.ReadFile(name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		switch there, err := os.ReadFile(path); {
		case err == nil && bytes.Equal(there, source):
			return nil
		case err == nil:
			differing = append(differing, path)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		missing[path] = source
		order = append(order, path)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is in %s: %w", dir, err)
	}
	if len(differing) > 0 && !replace {
		return nil, &problem.Error{
			Exit:    problem.ExitFailure,
			Message: "nothing was written, since these files differ: " + strings.Join(differing, ", "),
			Hints:   []string{"To replace files that another version of this program has written, add --replace."},
		}
	}
	for _, path := range order {
		if err := writeWhole(path, missing[path]); err != nil {
			return written, fmt.Errorf("writing %s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, nil
}

// writeWhole writes a file so that it is there as a whole or not at all.
func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
