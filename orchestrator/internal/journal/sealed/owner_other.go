//go:build !unix

package sealed

import "io/fs"

// ownerOf says that files have no owners with numbers here, and no modes that say who may read them.
func ownerOf(fs.FileInfo) (user int, known bool) { return 0, false }
