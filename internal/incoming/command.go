package incoming

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/internal/wire"
)

// Command is what the metadata of a call says.
type Command struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// ID identifies the step, "sagas/{saga}/steps/{step}".
	ID string

	// Direction is wire.Action or wire.Compensation.
	Direction string

	// Attempt counts the attempts, starting at 1.
	Attempt int

	// Epoch is the fencing epoch, or 0 if none was sent, and Scope the scope that it belongs to, or empty.
	Epoch uint64
	Scope string

	// Start is when the saga started, or zero if that wasn't sent.
	Start time.Time

	// RequestDigest identifies the action's request, in hex. It is empty if it wasn't sent.
	RequestDigest string
}

// commandKeys are the keys of a command's metadata.
var commandKeys = []string{
	wire.SagaKey, wire.CommandIDKey, wire.DirectionKey, wire.AttemptKey, wire.EpochKey, wire.ScopeKey, wire.StartKey,
	wire.RequestDigestKey,
}

// HasCommandKey reports whether a call has a key of a command's metadata.
func HasCommandKey(md metadata.MD) bool {
	for _, key := range commandKeys {
		if len(md[key]) > 0 {
			return true
		}
	}
	return false
}

// ParseCommand reads a command from the metadata of a call. It returns false and no error if there is no key of a
// command. The error names the key that is malformed, missing or there twice.
func ParseCommand(md metadata.MD) (Command, bool, error) {
	if !HasCommandKey(md) {
		return Command{}, false, nil
	}
	for _, key := range commandKeys {
		if n := len(md[key]); n > 1 {
			return Command{}, false, fmt.Errorf("metadata %s: %d values, want one", key, n)
		}
	}
	c := Command{
		ID: first(md, wire.CommandIDKey), Saga: first(md, wire.SagaKey), Direction: first(md, wire.DirectionKey),
		Attempt: 1,
	}
	saga, err := sagaOf(c.ID)
	if err != nil {
		return Command{}, false, err
	}
	if c.Saga == "" {
		c.Saga = saga
	}
	if c.Saga != saga {
		return Command{}, false, fmt.Errorf("metadata %s: want %q as in %s, got %.80q", wire.SagaKey, saga,
			wire.CommandIDKey, c.Saga)
	}
	if c.Direction != wire.Action && c.Direction != wire.Compensation {
		return Command{}, false, directionError(c.Direction)
	}
	if s := first(md, wire.AttemptKey); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || n == 0 {
			return Command{}, false, attemptError(s)
		}
		c.Attempt = int(n)
	}
	if s := first(md, wire.EpochKey); s != "" {
		// 63 bits fit into the integers of any database.
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return Command{}, false, epochError(s)
		}
		c.Epoch = n
	}
	if c.Scope = first(md, wire.ScopeKey); c.Scope != "" && c.Epoch == 0 {
		return Command{}, false, fmt.Errorf("metadata %s: is missing, but there is a %s", wire.EpochKey, wire.ScopeKey)
	}
	if c.Scope != "" && !wire.ValidScope(c.Scope) {
		return Command{}, false, scopeError(c.Scope)
	}
	if s := first(md, wire.StartKey); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return Command{}, false, startError(s)
		}
		c.Start = time.UnixMicro(n).UTC()
	}
	c.RequestDigest = first(md, wire.RequestDigestKey)
	if c.RequestDigest != "" && !isDigest(c.RequestDigest) {
		return Command{}, false, digestError(c.RequestDigest)
	}
	return c, true, nil
}

// sagaOf returns the name of the saga in a command id.
func sagaOf(id string) (string, error) {
	saga, _, ok := wire.SplitStep(id)
	if !ok || len(id) > wire.MaxCommandID {
		return "", fmt.Errorf("metadata %s: want sagas/{saga}/steps/{step} of at most %d bytes, got %.80q",
			wire.CommandIDKey, wire.MaxCommandID, id)
	}
	return saga, nil
}

func directionError(got string) error {
	return fmt.Errorf("metadata %s: want %q or %q, got %.80q", wire.DirectionKey, wire.Action, wire.Compensation, got)
}

func attemptError(got string) error {
	return fmt.Errorf("metadata %s: want a decimal number from 1, got %.80q", wire.AttemptKey, got)
}

func epochError(got string) error {
	return fmt.Errorf("metadata %s: want a decimal number below 2^63, got %.80q", wire.EpochKey, got)
}

func scopeError(got string) error {
	return fmt.Errorf("metadata %s: want {name}/{shard} of at most %d bytes, got %.80q", wire.ScopeKey, wire.MaxScope,
		got)
}

func startError(got string) error {
	return fmt.Errorf("metadata %s: want decimal microseconds since 1970, got %.80q", wire.StartKey, got)
}

func digestError(got string) error {
	return fmt.Errorf("metadata %s: want %d hex digits in lower case, got %.80q", wire.RequestDigestKey,
		wire.DigestLength, got)
}

func isDigest(text string) bool {
	if len(text) != wire.DigestLength {
		return false
	}
	for _, r := range text {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
