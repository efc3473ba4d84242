package sealed_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// BenchmarkAppend writes sagas of four turns in groups of 256, as a busy orchestrator does, plain and sealed. It
// reports the time, the processor's included, of a turn, and how much room one takes in the file.
func BenchmarkAppend(b *testing.B) {
	const group, turns = 256, 4
	data := bytes.Repeat([]byte("payload "), 20)
	for _, kind := range []string{"plain", "sealed"} {
		for _, labels := range []map[string]string{nil, {"customer": "c-12345"}} {
			b.Run(fmt.Sprintf("%s/%d labels", kind, len(labels)), func(b *testing.B) {
				dir := b.TempDir()
				inside := openInside(b, dir)
				defer shut(b, inside)
				var store journal.Store = inside
				if kind == "sealed" {
					store = closing{newSealed(b, inside, dir), inside}
				}
				b.ReportAllocs()
				written := 0
				for b.Loop() {
					entries := make([]*journal.Entry, group)
					for turn := range turns {
						for i := range entries {
							id := fmt.Sprintf("saga-%010d-%03d", written, i)
							entries[i] = first(id, "", labels)
							entries[i].Data, entries[i].Turn = data, uint64(turn)+1
							if turn > 0 {
								entries[i].Row = nil
							}
						}
						write(b, store, entries...)
					}
					written++
				}
				all := float64(written * group * turns)
				size := inside.Size()
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/all, "ns/turn")
				b.ReportMetric(float64(size.File+size.Log)/all, "B/turn")
			})
		}
	}
}
