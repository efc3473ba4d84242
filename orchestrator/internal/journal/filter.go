package journal

import "time"

// Filter is a condition on rows: a tree whose inner nodes are And, Or and Not and whose leaves compare a field.
type Filter struct {
	// Op is what the node does.
	Op FilterOp

	// Args are the conditions that And, Or (two or more) and Not (one) combine.
	Args []*Filter

	// Field is what a comparison looks at.
	Field FilterField

	// Label is the label's key when Field is FieldLabel. A row without that label equals no value: only NotEqual holds for it.
	Label string

	// Text is what a comparison of FieldID, FieldDefinition or FieldLabel compares with, byte by byte, and, as the enum's name without
	// its prefix ("SUSPENDED"), of FieldState.
	Text string

	// Time is what a comparison of FieldCreateTime and FieldUpdateTime compares with; what is finer than a microsecond is cut off.
	Time time.Time
}

// FilterOp is what a node of a Filter does.
type FilterOp int

// The nodes of a Filter. FieldState knows only Equal and NotEqual.
const (
	And FilterOp = iota + 1
	Or
	Not
	Equal
	NotEqual
	Less
	LessOrEqual
	Greater
	GreaterOrEqual
)

// FilterField is a field of a Row.
type FilterField int

// The fields that a Filter can look at.
const (
	FieldID FilterField = iota + 1
	FieldDefinition
	FieldState
	FieldCreateTime
	FieldUpdateTime
	FieldLabel
)
