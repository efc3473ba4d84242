package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// pagePosition is the last entry of a page.
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

// pageList identifies the list that a page token belongs to. A token isn't valid for another list.
type pageList string

// newPageList identifies a list by its kind and by the fields of the request that select and order its entries.
func newPageList(kind string, parts ...string) pageList {
	return pageList(kind + "\x00" + strings.Join(parts, "\x00"))
}

// token encodes the position: the version, a checksum, the number and the id.
func (p pagePosition) token(in pageList) string {
	raw := make([]byte, tokenHead, tokenHead+len(p.id))
	raw[0] = tokenVersion
	binary.BigEndian.PutUint64(raw[1+tokenSum:], uint64(p.number))
	raw = append(raw, p.id...)
	copy(raw[1:], checksum(raw, in))
	return base64.RawURLEncoding.EncodeToString(raw)
}

// checksum detects tokens that were changed or belong to another list. It isn't a protection against forged tokens,
// which give access to nothing more.
func checksum(raw []byte, in pageList) []byte {
	hash := sha256.New()
	hash.Write(raw[:1])
	hash.Write(raw[1+tokenSum:])
	hash.Write([]byte{0})
	hash.Write([]byte(in))
	return hash.Sum(nil)[:tokenSum]
}

// parseToken decodes a token of the same list.
func parseToken(token string, in pageList) (pagePosition, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tokenHead || raw[0] != tokenVersion ||
		!bytes.Equal(raw[1:1+tokenSum], checksum(raw, in)) {
		return pagePosition{}, invalid("page_token", "isn't valid for this list: want the next_page_token of the "+
			"previous page with the same other fields, or none for the first page")
	}
	return pagePosition{
		id:     string(raw[tokenHead:]),
		number: int64(binary.BigEndian.Uint64(raw[1+tokenSum:])),
	}, nil
}
