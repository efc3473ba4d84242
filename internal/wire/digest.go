package wire

import (
	"crypto/sha256"
	"encoding/hex"
)

// RequestDigest returns the value of [RequestDigestKey] for a request: the SHA-256 of the method, a zero byte and the
// serialized request, in hex. The method has no leading slash: "acme.card.v1.CardService/IssueCard". A compensation
// carries the digest of its action.
func RequestDigest(method string, request []byte) string {
	hash := sha256.New()
	hash.Write(append([]byte(method), 0))
	hash.Write(request)
	var sum [sha256.Size]byte
	return hex.EncodeToString(hash.Sum(sum[:0]))
}

// DigestLength is the length of a request digest.
const DigestLength = 2 * sha256.Size
