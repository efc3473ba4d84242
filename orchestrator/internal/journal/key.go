package journal

import "fmt"

// KeyError says that what is stored was sealed with a key that the program doesn't have. It is an ErrKey. Once the key
// is back, it can be read again.
type KeyError struct {
	// Key is the id of the key.
	Key string

	// What is what can't be read, such as "turn 3 of saga s-1".
	What string

	// Row is the row of the saga if Load or Open returns the error, and nil otherwise. Its labels may be missing.
	Row *Row

	// Turn is the number of the saga's last turn if Load or Open returns the error, and 0 otherwise.
	Turn uint64
}

// Error says which key is missing, for what, and what to do.
func (e *KeyError) Error() string {
	return fmt.Sprintf("%s is sealed with the key %s, which is missing: put it back into the file of keys", e.What,
		e.Key)
}

// Is returns whether target is ErrKey.
func (e *KeyError) Is(target error) bool { return target == ErrKey }
