// Package paging parses and makes the page tokens of list methods (AIP-158). A page continues after the last row of the
// previous one. So if rows are added or deleted in between, no other row is listed twice or skipped.
package paging

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The bounds of page sizes.
const (
	DefaultSize = 50
	MaxSize     = 1000
)

// Page is the range of rows that a request asks for.
type Page struct {
	// Size is the maximum number of rows, from 1 to MaxSize.
	Size int

	// After is the sequence number before the first row. It is 0 on the first page.
	After int64

	check uint32
}

// Parse parses the page size and token of a list request. The conditions are the request's other fields: a token is
// only valid with the conditions that it was made for. Errors are INVALID_ARGUMENT statuses.
func Parse(size int32, token string, conditions ...string) (Page, error) {
	p := Page{Size: int(size), check: checksum(conditions)}
	switch {
	case size < 0:
		return Page{}, status.Errorf(codes.InvalidArgument, "page_size: want 0 (for the default) to %d, got %d",
			MaxSize, size)
	case size == 0:
		p.Size = DefaultSize
	case size > MaxSize:
		p.Size = MaxSize
	}
	if token == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 12 {
		return Page{}, status.Error(codes.InvalidArgument, "page_token: want a token that this method has returned")
	}
	if binary.BigEndian.Uint32(raw[8:]) != p.check {
		return Page{}, status.Error(codes.InvalidArgument,
			"page_token: the token belongs to a request with other fields")
	}
	p.After = int64(binary.BigEndian.Uint64(raw))
	if p.After <= 0 {
		return Page{}, status.Error(codes.InvalidArgument, "page_token: want a token that this method has returned")
	}
	return p, nil
}

// Next returns the token of the page after this one, given the last row's sequence number.
func (p Page) Next(last int64) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(last))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, p.check))
}

func checksum(conditions []string) uint32 {
	h := fnv.New32a()
	for _, c := range conditions {
		_, _ = h.Write([]byte(c))
		_, _ = h.Write([]byte{0})
	}
	return h.Sum32()
}
