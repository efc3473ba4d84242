package engine

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// changedContract returns the first place where a contract no longer fits what the journal of an open saga holds, or
// nil. It looks only at what the saga still needs: commands without an outcome, steps that may have to be compensated,
// and open waits.
//
// A journal keeps no descriptors. So a change of a type is found only if the bytes show it.
func changedContract(catalog *contract.Catalog, saga *machine.Saga) *treatyv1.SagaSuspended {
	for _, step := range saga.Steps {
		if wrong := changedStep(catalog, saga, step); wrong != nil {
			wrong.Step = step.Path()
			return wrong
		}
	}
	return changedWait(catalog, saga)
}

// changedWait returns the first event that an open saga awaits and that has changed, or nil.
func changedWait(catalog *contract.Catalog, saga *machine.Saga) *treatyv1.SagaSuspended {
	if saga.CompensationDecided != nil {
		return nil // it awaits nothing any more
	}
	for _, wait := range saga.Waits {
		for _, key := range wait.Scheduled.GetEvents() {
			if wrong := changedKey(catalog, key); wrong != nil {
				wrong.Step = wait.Scheduled.GetWait()
				return wrong
			}
		}
	}
	return nil
}

// changedStep returns how the contract of a step has changed, or nil.
func changedStep(catalog *contract.Catalog, saga *machine.Saga, step *machine.Step) *treatyv1.SagaSuspended {
	scheduled := step.Scheduled
	open := step.State == treatyv1.StepState_STEP_STATE_SCHEDULED
	undo := scheduled.GetCompensation() != nil && needsUndo(saga, step)
	if !open && !undo {
		return nil
	}
	command, known := catalog.Command(scheduled.GetMethod())
	if open {
		switch {
		case !known:
			return &treatyv1.SagaSuspended{
				Expected: "the command " + scheduled.GetMethod() + ", which may still be sent",
				Found:    "no contract of this build has it; build with it until the saga has ended",
			}
		case contract.KindChangeBreaks(scheduled.GetKind(), command.Kind):
			return &treatyv1.SagaSuspended{
				Expected: kindName(scheduled.GetKind()) + " command " + scheduled.GetMethod(),
				Found: "its contract says " + kindName(command.Kind) + "; give it its earlier kind until the saga " +
					"has ended",
			}
		}
	}
	if known {
		if wrong := retyped(command.Input, scheduled.GetRequest(), "request of "+command.Method); wrong != nil {
			return wrong
		}
		if wrong := retyped(command.Output, step.Reply, "reply of "+command.Method); wrong != nil {
			return wrong
		}
	}
	if scheduled.GetCompensation() == nil || saga.Irreversible() && !undo {
		return nil
	}
	return changedCompensation(catalog, scheduled, command)
}

// needsUndo reports whether a step is compensated, or would be if its saga failed.
func needsUndo(saga *machine.Saga, step *machine.Step) bool {
	switch step.State {
	case treatyv1.StepState_STEP_STATE_COMPENSATING:
		return true
	case treatyv1.StepState_STEP_STATE_DONE, treatyv1.StepState_STEP_STATE_UNKNOWN:
		return !saga.Irreversible()
	case treatyv1.StepState_STEP_STATE_REFUSED:
		return step.MayHaveRun && !saga.Irreversible()
	}
	return false
}

// changedCompensation returns how the compensation of a step has changed, or nil. command is nil if it is gone. That
// new steps of the command are compensated by another method is no matter, because the journal names this step's.
func changedCompensation(
	catalog *contract.Catalog, scheduled *treatyv1.StepScheduled, command *contract.Command,
) *treatyv1.SagaSuspended {
	plan := scheduled.GetCompensation()
	compensation, known := catalog.Compensation(plan.GetMethod())
	if !known {
		return &treatyv1.SagaSuspended{
			Expected: "the compensation " + plan.GetMethod() + " of " + scheduled.GetMethod(),
			Found: "no command of this build is compensated by it, so it can't be called; name it in compensated_by " +
				"until the saga has ended",
		}
	}
	if command == nil {
		return nil // its types aren't known
	}
	for _, part := range []struct {
		what    string
		field   int32
		message protoreflect.MessageDescriptor
	}{
		{"request", plan.GetActionField(), command.Input},
		{"reply", plan.GetReplyField(), command.Output},
	} {
		if part.field == 0 {
			continue
		}
		field := compensation.Input.Fields().ByNumber(protoreflect.FieldNumber(part.field))
		if field == nil || field.Message() == nil || field.Message().FullName() != part.message.FullName() {
			return &treatyv1.SagaSuspended{
				Expected: fmt.Sprintf("a field %d of %s for the %s of %s", part.field, compensation.Input.FullName(),
					part.what, scheduled.GetMethod()),
				Found: "another field, or none; give the field its earlier number until the saga has ended",
			}
		}
	}
	return nil
}

// changedKey returns how the event of an open wait has changed, or nil.
func changedKey(catalog *contract.Catalog, key *treatyv1.EventKey) *treatyv1.SagaSuspended {
	event, known := catalog.EventType(key.GetType())
	if !known {
		return &treatyv1.SagaSuspended{
			Expected: "the event " + key.GetType() + ", which the saga awaits",
			Found:    "no contract of this build has it; build with it until the saga has ended",
		}
	}
	if key.GetKeyField() == 0 || key.GetKeyField() == int32(event.Key.Number()) {
		return nil
	}
	return &treatyv1.SagaSuspended{
		Expected: fmt.Sprintf("an event %s whose correlation key is %s", key.GetType(),
			fieldName(event.Message, key.GetKeyField())),
		Found: fmt.Sprintf("its correlation key is %s, so no event wakes the saga; give it its earlier key until the "+
			"saga has ended", fieldName(event.Message, int32(event.Key.Number()))),
	}
}

// fieldName returns the name of a field for people.
func fieldName(message protoreflect.MessageDescriptor, number int32) string {
	if field := message.Fields().ByNumber(protoreflect.FieldNumber(number)); field != nil {
		return fmt.Sprintf("%s (field %d)", field.Name(), number)
	}
	return fmt.Sprintf("field %d", number)
}

func kindName(kind treatyv1.CommandKind) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "COMMAND_KIND_"))
}

// retyped returns how a journaled message differs from its type, or nil. Fields that the type doesn't know are ignored,
// because a participant may be newer, unless the type has another field with that number, or had one.
func retyped(message protoreflect.MessageDescriptor, data []byte, what string) *treatyv1.SagaSuspended {
	if message == nil {
		return nil
	}
	decoded := dynamicpb.NewMessage(message)
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(data, decoded); err != nil {
		return &treatyv1.SagaSuspended{
			Expected: "a " + what + " that is a " + string(message.FullName()),
			Found:    fmt.Sprintf("the journal holds another message: %v", err),
		}
	}
	number := removedField(decoded)
	if number == 0 {
		return nil
	}
	return &treatyv1.SagaSuspended{
		Expected: fmt.Sprintf("a %s with field %d as the journal holds it", what, number),
		Found: "the field was removed, or has another type; add a field with a new number instead, and give this " +
			"one its type until the saga has ended",
	}
}

// removedField returns the number of a field that a message holds, and that its type declares otherwise or reserves, or
// 0. It looks into the messages in its fields.
func removedField(m protoreflect.Message) protowire.Number {
	for unknown := m.GetUnknown(); len(unknown) > 0; {
		number, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			return 0
		}
		unknown = unknown[size:]
		if m.Descriptor().Fields().ByNumber(number) != nil || m.Descriptor().ReservedRanges().Has(number) {
			return number
		}
	}
	var found protowire.Number
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = removedField(v.Message())
				return found == 0
			})
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len() && found == 0; i++ {
				found = removedField(value.List().Get(i).Message())
			}
		default:
			found = removedField(value.Message())
		}
		return found == 0
	})
	return found
}
