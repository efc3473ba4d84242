package server

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errCallerGone says that nothing can be sent to the caller any more, because it has closed its connection. The
// context of the call may end a moment later.
var errCallerGone = errors.New("the caller is gone")

// sendError returns the error of sending something to the caller, and tells the caller's end from other errors.
func sendError(doing string, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		return fmt.Errorf("%s: %w: %w", doing, errCallerGone, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
