package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// pagePosition is where a page ends.
type pagePosition struct {
	// id is the last saga's id; empty in a list of records.
	id string

	// number is the last saga's time in microseconds since 1970, or the last turn's number.
	number int64
}

const (
	tokenVersion = 1
	tokenSum     = 8
	tokenHead    = 1 + tokenSum + 8
)

// pageList is what a list's pages have in common: a token is good for no other list.
type pageList string

// newPageList joins what a list depends on.
func newPageList(kind string, parts ...string) pageList {
	return pageList(kind + "\x00" + strings.Join(parts, "\x00"))
}

// token renders the position: the version, a checksum over everything, the number and the id.
func (p pagePosition) token(in pageList) string {
	raw := make([]byte, tokenHead, tokenHead+len(p.id))
	raw[0] = tokenVersion
	binary.BigEndian.PutUint64(raw[1+tokenSum:], uint64(p.number))
	raw = append(raw, p.id...)
	copy(raw[1:], checksum(raw, in))
	return base64.RawURLEncoding.EncodeToString(raw)
}

// checksum doesn't keep anybody from making tokens up: they say nothing that a caller may not know. It finds mistakes.
func checksum(raw []byte, in pageList) []byte {
	hash := sha256.New()
	hash.Write(raw[:1])
	hash.Write(raw[1+tokenSum:])
	hash.Write([]byte{0})
	hash.Write([]byte(in))
	return hash.Sum(nil)[:tokenSum]
}

// parseToken reads a token of the same list.
func parseToken(token string, in pageList) (pagePosition, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tokenHead || raw[0] != tokenVersion || !bytes.Equal(raw[1:1+tokenSum], checksum(raw, in)) {
		return pagePosition{}, invalid("page_token", "isn't a token of this list: give the next_page_token of the page before, with the same other fields, or none to begin anew")
	}
	return pagePosition{
		id:     string(raw[tokenHead:]),
		number: int64(binary.BigEndian.Uint64(raw[1+tokenSum:])),
	}, nil
}
