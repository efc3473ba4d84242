package sealed

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// FuzzRing reads files of keys. One that is accepted seals and opens.
func FuzzRing(f *testing.F) {
	file := newFile(time.Unix(0, 0))
	valid, err := file.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte(`{"primary": "00000001", "index": "", "keys": [{"id": "00000001", "key": ""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRing(data)
		if err != nil {
			return
		}
		envelope, err := r.seal(nil, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := r.open(envelope, nil); err != nil || !bytes.Equal(opened, data) {
			t.Errorf("open = %q, %v; want what was sealed", opened, err)
		}
	})
}

// FuzzOpen opens envelopes that nobody has sealed. None opens, and none is taken for anything but what it is.
func FuzzOpen(f *testing.F) {
	file := newFile(time.Unix(0, 0))
	data, err := file.marshal()
	if err != nil {
		f.Fatal(err)
	}
	r, err := parseRing(data)
	if err != nil {
		f.Fatal(err)
	}
	envelope, err := r.seal(nil, []byte("request"), turnPlace("s-1", 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	f.Add(envelope[:headerSize])
	f.Add([]byte{0})
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, data []byte) {
		opened, err := r.open(data, turnPlace("s-2", 1))
		switch {
		case !isSealed(data):
			if err != nil || !bytes.Equal(opened, data) {
				t.Errorf("open of plain data = %q, %v; want the same", opened, err)
			}
		case !errors.Is(err, journal.ErrCorrupt) && !errors.Is(err, journal.ErrKey):
			t.Errorf("open = %q, %v; want ErrCorrupt or ErrKey", opened, err)
		}
	})
}
