package problem

import (
	"fmt"
	"regexp"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sizes finds the sizes in gRPC's own error for a message above a limit, e.g. "grpc: received message larger than max
// (5242896 vs. 4194304)".
var sizes = regexp.MustCompile(`message (?:after decompression )?larger than max \(?(\d+)(?: vs\. (\d+)\))?`)

// tooLarge returns the size of the message that gRPC has refused, and the limit. Those that gRPC doesn't say are 0. An
// orchestrator's own RESOURCE_EXHAUSTED has an ErrorInfo: it is about load, not about the message.
func tooLarge(failure *status.Status) (size, limit int64, is bool) {
	if failure.Code() != codes.ResourceExhausted || errorInfo(failure) != nil {
		return 0, 0, false
	}
	found := sizes.FindStringSubmatch(failure.Message())
	if found == nil {
		return 0, 0, false
	}
	if found[2] == "" {
		limit, _ = strconv.ParseInt(found[1], 10, 64) // 0 if it is out of range
		return 0, limit, true
	}
	size, _ = strconv.ParseInt(found[1], 10, 64)
	limit, _ = strconv.ParseInt(found[2], 10, 64)
	return size, limit, true
}

// adviseTooLarge says that a message is too large. Repeating the call doesn't help.
func (e Explainer) adviseTooLarge(p *Error, about Subject, size, limit int64) {
	if limit >= e.MaxReplyBytes && e.MaxReplyBytes > 0 {
		p.Message = fmt.Sprintf("the reply of %s is larger than the %s that this program reads", e.Address,
			mebibytes(limit))
		p.Hints = append(p.Hints, "Ask for less, for example with --page-size.")
	} else {
		it := ""
		if size > 0 {
			it = fmt.Sprintf("it has %d bytes, and ", size)
		}
		p.Message = "the request is too large: " + it + e.Address + " takes at most " + mebibytes(limit)
		p.Hints = append(p.Hints, "Nothing was recorded. Store the data elsewhere, and send a reference.")
	}
	if about.Doing != "" {
		p.Message = about.Doing + ": " + p.Message
	}
}

// mebibytes returns a size in MiB, or in bytes if it isn't a whole number of them.
func mebibytes(n int64) string {
	if n > 0 && n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
