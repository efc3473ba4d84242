package journal

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Filter is a condition on rows. It is a tree: And, Or and Not combine conditions, and the leaves compare a field.
type Filter struct {
	// Op is the operation of the node.
	Op FilterOp

	// Args are the conditions that And and Or (two or more) and Not (one) combine.
	Args []*Filter

	// Field is the field that a leaf compares.
	Field FilterField

	// Label is the key of the label if Field is FieldLabel. A row without this label has no value: of the
	// comparisons, only NotEqual is true for it.
	Label string

	// Text is the value to compare FieldID, FieldDefinition or FieldLabel with, byte by byte. For FieldState, it is
	// the name of the enum value without its prefix, such as "SUSPENDED". For FieldSuspension too, such as "PANIC"; a
	// row without a reason differs from all of them.
	Text string

	// Time is the value to compare FieldCreateTime or FieldUpdateTime with. It is cut off to microseconds.
	Time time.Time
}

// FilterOp is the operation of a node of a Filter.
type FilterOp int

// The operations. FieldState and FieldSuspension can only be compared with Equal and NotEqual.
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

// The fields that a Filter can compare.
const (
	FieldID FilterField = iota + 1
	FieldDefinition
	FieldState
	FieldCreateTime
	FieldUpdateTime
	FieldLabel
	FieldSuspension
)

// State returns the state that Text names, and false if there is no such state.
func (f *Filter) State() (treatyv1.SagaState, bool) {
	state, ok := treatyv1.SagaState_value["SAGA_STATE_"+f.Text]
	return treatyv1.SagaState(state), ok
}

// Suspension returns the reason that Text names, and false if there is no such reason.
func (f *Filter) Suspension() (treatyv1.SuspensionReason, bool) {
	reason := treatyv1.SuspensionReason(treatyv1.SuspensionReason_value["SUSPENSION_REASON_"+f.Text])
	return reason, reason != treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED
}
