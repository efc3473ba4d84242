package sealed

import (
	"bytes"
	"testing"
	"time"
)

// BenchmarkSeal seals and opens a turn of 160 bytes.
func BenchmarkSeal(b *testing.B) {
	file := newFile(time.Unix(0, 0))
	data, err := file.marshal()
	if err != nil {
		b.Fatal(err)
	}
	r, err := parseRing(data)
	if err != nil {
		b.Fatal(err)
	}
	turn, place := bytes.Repeat([]byte("payload "), 20), turnPlace("saga-1", 1)
	envelope, err := r.seal(nil, turn, place)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		space := make([]byte, 0, len(envelope))
		for b.Loop() {
			if _, err := r.seal(space[:0], turn, place); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.open(envelope, place); err != nil {
				b.Fatal(err)
			}
		}
	})
}
