package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"
)

// The first letter of an id that the orchestrator has made says where the id comes from.
const (
	idFromTime      = "s" // the time and a random number
	idFromRequestID = "r"
	idFromParent    = "c" // the command id of the parent's step
)

// The numbers of bytes in an id, which its first letter is put before.
const (
	timeBytes    = 16
	derivedBytes = 20
)

// IDSource is where the id of a saga comes from.
type IDSource int

const (
	// IDFromCaller means that the caller has chosen the id.
	IDFromCaller IDSource = iota

	// IDFromTime means that the orchestrator has chosen a new id.
	IDFromTime

	// IDFromRequestID means that the id is derived from a request id.
	IDFromRequestID

	// IDFromParent means that the id is derived from a parent's command.
	IDFromParent
)

// SourceOfID returns where an id comes from. A caller could choose an id that looks like one of the others.
func SourceOfID(id string) IDSource {
	if id == "" {
		return IDFromCaller
	}
	raw, err := lowerBase32.DecodeString(id[1:])
	switch first := id[:1]; {
	case err != nil:
		return IDFromCaller
	case first == idFromTime && len(raw) == timeBytes:
		return IDFromTime
	case first == idFromRequestID && len(raw) == derivedBytes:
		return IDFromRequestID
	case first == idFromParent && len(raw) == derivedBytes:
		return IDFromParent
	default:
		return IDFromCaller
	}
}

var lowerBase32 = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewID returns an id for a saga of the orchestrator with a name. An id that is derived from a request id is always the
// same, so that the store rejects a second start; orchestrators with different names derive different ids. Any other id
// is new and begins with the time, so that new sagas are neighbors in the store's index.
func NewID(now time.Time, name, definition, requestID string) string {
	if requestID != "" {
		if name != "" {
			definition = name + "\x00" + definition
		}
		return idFromRequestID + derivedID(definition, requestID)
	}
	var raw [timeBytes]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(raw[6:]) // never fails
	return idFromTime + lowerBase32.EncodeToString(raw[:])
}

// ChildID returns the id of a child saga: the saga that is a step of another one. It is always the same for a command
// id.
func ChildID(definition, commandID string) string {
	return idFromParent + derivedID(definition, commandID)
}

func derivedID(definition, text string) string {
	sum := sha256.Sum256([]byte(definition + "\x00" + text))
	return lowerBase32.EncodeToString(sum[:derivedBytes])
}

// isDerivedID returns whether an id comes from a request id or from a parent's command, so that the same id may come
// again. The store must remember such an id after the saga was purged: participants would answer the commands of a
// second saga with that id as duplicates.
func isDerivedID(id string) bool { return !strings.HasPrefix(id, idFromTime) }
