package wire

import (
	"crypto/sha256"
	"encoding/hex"
)

// RequestDigest returns the value of [RequestDigestKey] for a request: the SHA-256 of the method, a zero byte and the
// serialized request, in hex. The method has no leading slash: "acme.card.v1.CardService/IssueCard". A compensation
// carries the digest of its action.
func RequestDigest(method string, request []byte) string {
	// Most requests fit, so that the text is the only allocation.
	var space [512]byte
	data := append(append(append(space[:0], method...), 0), request...)
	sum := sha256.Sum256(data)
	var text [DigestLength]byte
	hex.Encode(text[:], sum[:])
	return string(text[:])
}

// DigestLength is the length of a request digest.
const DigestLength = 2 * sha256.Size
