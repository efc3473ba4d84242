package sealed

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// An envelope is a zero byte, the version, the key's id, the nonce, and the ciphertext. A message that protobuf has
// serialized never begins with a zero byte, because no field has the number 0.
const (
	marker     = 0
	version    = 1
	headerSize = 2 + 4 + nonceSize

	// overhead is how many bytes longer an envelope is than what it seals.
	overhead = headerSize + tagSize
)

// isSealed returns whether data is an envelope.
func isSealed(data []byte) bool { return len(data) > 0 && data[0] == marker }

// place returns the additional data of what is sealed: its kind and where it belongs.
func place(kind string, parts ...string) []byte {
	size := 1 + len(kind)
	for _, part := range parts {
		size += binary.MaxVarintLen64 + len(part)
	}
	bound := append(make([]byte, 0, size), kind...)
	bound = append(bound, 0)
	for _, part := range parts {
		bound = binary.AppendUvarint(bound, uint64(len(part)))
		bound = append(bound, part...)
	}
	return bound
}

func turnPlace(saga string, turn uint64) []byte {
	return binary.AppendUvarint(place("turn", saga), turn)
}

func eventPlace(e *journal.Event) []byte { return place("event", e.Source, e.ID, e.Type, e.Subject) }

func labelsPlace(saga string) []byte { return place("labels", saga) }

// seal appends an envelope of data to to, with a random nonce.
func (r *ring) seal(to, data, additional []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	return r.sealWith(r.primary, to, nonce[:], data, additional)
}

// sealEvent returns the one envelope that an event has under a key.
func (r *ring) sealEvent(id keyID, e *journal.Event) ([]byte, error) {
	additional := eventPlace(e)
	nonce := r.mac("event nonce", id.String(), string(additional), string(e.Data))
	return r.sealWith(id, make([]byte, 0, overhead+len(e.Data)), nonce[:nonceSize], e.Data, additional)
}

func (r *ring) sealWith(id keyID, to, nonce, data, additional []byte) ([]byte, error) {
	to = append(to, marker, version)
	to = binary.BigEndian.AppendUint32(to, uint32(id))
	to = append(to, nonce...)
	return r.keys[id].seal(to, nonce, data, additional)
}

// open returns what an envelope seals, and plain data as it is. The errors are *journal.KeyError, without what it is
// about, and journal.ErrCorrupt.
func (r *ring) open(data, additional []byte) ([]byte, error) {
	if !isSealed(data) {
		return data, nil
	}
	if len(data) < overhead {
		return nil, fmt.Errorf("%w: an envelope has %d bytes", journal.ErrCorrupt, len(data))
	}
	if data[1] != version {
		return nil, fmt.Errorf("%w: an envelope has the version %d, which this program doesn't know",
			journal.ErrCorrupt, data[1])
	}
	id := keyID(binary.BigEndian.Uint32(data[2:]))
	key := r.keys[id]
	if key == nil {
		return nil, &journal.KeyError{Key: id.String()}
	}
	opened, err := key.open(data[headerSize-nonceSize:headerSize], data[headerSize:], additional)
	if err != nil {
		return nil, fmt.Errorf("%w: %w, here, with the key %s", journal.ErrCorrupt, err, id)
	}
	return opened, nil
}
