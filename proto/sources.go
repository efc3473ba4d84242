// Package proto holds the sources of Treaty's contracts, which other contracts import.
package proto

import "embed"

// Sources are the files of the proto package treaty.v1, below treaty/v1.
//
//go:embed treaty/v1/*.proto
var Sources embed.FS
