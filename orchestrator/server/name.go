package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"regexp"
	"strings"
	"time"
)

const (
	// namePrefix begins a saga's resource name.
	namePrefix = "sagas/"

	// maxSagaID is how long a saga's id may be.
	maxSagaID = 63
)

var sagaID = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

func validSagaID(id string) bool { return len(id) <= maxSagaID && sagaID.MatchString(id) }

// parseName returns the id in "sagas/{saga}".
func parseName(field, name string) (string, error) {
	if name == "" {
		return "", invalid(field, "is missing: write sagas/ID")
	}
	id, ok := strings.CutPrefix(name, namePrefix)
	if !ok || !validSagaID(id) {
		return "", invalid(field, "%q is no saga's name: write sagas/ID", shorten(name))
	}
	return id, nil
}

var lowerBase32 = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// newSagaID makes a saga's id. One that is derived from a request id is the same each time, so that the store itself turns down a second
// start; any other begins with the time, so that new sagas are neighbours in the store's index. It is chosen here because
// the saga's trace and the answer to a start whose outcome is unknown both need it.
func newSagaID(now time.Time, definition, requestID string) string {
	if requestID != "" {
		sum := sha256.Sum256([]byte(definition + "\x00" + requestID))
		return "r" + lowerBase32.EncodeToString(sum[:20])
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(raw[6:]) // never fails
	return "s" + lowerBase32.EncodeToString(raw[:])
}

// shorten keeps what a caller sent from filling a message.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
