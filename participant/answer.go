package participant

import "errors"

// Settle returns an error that says: this answer is stored durably, and every other attempt of the command in this
// direction, earlier or later, gets it too. [UnaryServerInterceptor] then marks the answer as settled, so that the
// orchestrator knows that no attempt has an effect. Package inbox uses it. Call it after the commit only. It keeps the
// status of err, and returns nil for nil.
func Settle(err error) error {
	if err == nil {
		return nil
	}
	return &settledError{err}
}

// IsSettled reports whether an error was made by [Settle], or wraps one that was.
func IsSettled(err error) bool {
	var settled *settledError
	return errors.As(err, &settled)
}

type settledError struct{ error }

// Unwrap returns the error that is settled.
func (e *settledError) Unwrap() error { return e.error }
