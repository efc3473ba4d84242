package cli

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build describes a binary.
type Build struct {
	// Version is the module's version, or "devel" when it has none.
	Version string `json:"version"`

	// Revision is the commit, or "" when it isn't known.
	Revision string `json:"revision,omitempty"`

	// Go is the version of Go.
	Go string `json:"go"`
}

// readBuild reads what the Go toolchain recorded in the binary.
func readBuild() Build {
	build := Build{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		build.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			build.Revision = setting.Value
		}
	}
	return build
}

// line is what the command prints.
func (b Build) line() string {
	text := "treaty " + b.Version
	if b.Revision != "" {
		text += " (" + b.Revision + ")"
	}
	return text + ", " + b.Go + "\n"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  exact(),
		RunE: a.run(func(context.Context, *cobra.Command, []string) error {
			if a.flags.json {
				writeJSON(a.Stdout, a.Build)
				return nil
			}
			a.print(a.Build.line())
			return nil
		}),
	}
}
