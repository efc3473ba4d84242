//go:build !unix

package npm

import "os"

// lockFile does nothing: run one build at a time.
func lockFile(*os.File) error { return nil }
