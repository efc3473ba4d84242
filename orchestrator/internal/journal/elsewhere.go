package journal

import "fmt"

// ElsewhereError says to which shard a saga belongs. It is an ErrElsewhere.
type ElsewhereError struct {
	// Saga is the saga's id.
	Saga string

	// Shard is the number of the shard.
	Shard int
}

// Error says where the saga is.
func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("saga %s belongs to shard %d", e.Saga, e.Shard)
}

// Is returns whether target is ErrElsewhere.
func (e *ElsewhereError) Is(target error) bool { return target == ErrElsewhere }
