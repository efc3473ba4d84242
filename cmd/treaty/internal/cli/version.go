package cli

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build says what was built.
type Build struct {
	// Version is the module's version, "devel" when it has none.
	Version string

	// Revision is the commit, empty when it isn't known.
	Revision string

	// Go is the version of Go.
	Go string
}

// readBuild reads what the Go toolchain wrote into the binary.
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

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  exact(),
		RunE: a.run(func(context.Context, *cobra.Command, []string) error {
			var out bytes.Buffer
			if a.flags.json {
				out.WriteString(`{"version":`)
				writeString(&out, a.Build.Version)
				if a.Build.Revision != "" {
					out.WriteString(`,"revision":`)
					writeString(&out, a.Build.Revision)
				}
				out.WriteString(`,"go":`)
				writeString(&out, a.Build.Go)
				out.WriteString("}\n")
			} else {
				out.WriteString("treaty " + a.Build.Version)
				if a.Build.Revision != "" {
					out.WriteString(" (" + a.Build.Revision + ")")
				}
				out.WriteString(", " + a.Build.Go + "\n")
			}
			_, _ = a.Stdout.Write(out.Bytes())
			return nil
		}),
	}
}
