package contract

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// CompensationRequest builds the request of a compensation from the serialized request and reply of its action, by the
// plan that the journal holds. It needs no descriptors: both are written as they are. A nil reply is one that isn't known, and is
// left out; an empty one is written as an empty message. The same input gives the same bytes.
func CompensationRequest(plan *treatyv1.CompensationPlan, action, reply []byte) []byte {
	var request []byte
	if n := protowire.Number(plan.GetActionField()); n > 0 {
		request = protowire.AppendTag(request, n, protowire.BytesType)
		request = protowire.AppendBytes(request, action)
	}
	if n := protowire.Number(plan.GetReplyField()); n > 0 && reply != nil {
		request = protowire.AppendTag(request, n, protowire.BytesType)
		request = protowire.AppendBytes(request, reply)
	}
	return request
}

// compensation reads what undoes the command m, which says so in compensated_by; nil when that can't be told.
func (r *report) compensation(m protoreflect.MethodDescriptor, name string) *Compensation {
	where := atOption(m, treatyv1.E_Command, commandCompensatedBy)
	service, _ := m.Parent().(protoreflect.ServiceDescriptor)
	undo := methodNamed(service, name)
	switch {
	case undo == nil && name == "":
		r.add(compensationUnknown, where, "compensated_by is empty: write the name of the method of %s that undoes %s", service.Name(), m.Name())
		return nil
	case undo == nil:
		r.add(compensationUnknown, where, "%s has no method %q to undo %s: write the name of one of its methods, without package and service, or add `rpc %s`",
			service.Name(), name, m.Name(), undoName(name, m))
		return nil
	case undo.FullName() == m.FullName():
		r.add(compensationSelf, where, "%s can't undo itself: write another method, whose request has a field of type %s", m.Name(), m.Input().FullName())
		return nil
	}
	options, err := methodOptionsOf(undo)
	if err != nil {
		r.add(optionUnreadable, at(undo), "the options of %s can't be read: use the treaty/v1/options.proto of this version", undo.Name())
		return nil
	}
	if options.command != nil {
		r.add(compensationIsCommand, atOption(undo, treatyv1.E_Command),
			"%s undoes %s, so it can't be a command: remove its (treaty.v1.command), and set its times in (treaty.v1.compensation)", undo.Name(), m.Name())
	}
	if options.saga != nil {
		r.add(compensationIsSaga, atOption(undo, treatyv1.E_Saga),
			"%s undoes %s, so it can't be a saga: remove (treaty.v1.saga), or make %s a pivot or retriable", undo.Name(), m.Name(), m.Name())
	}
	r.unshared(m, undo)
	if undo.IsStreamingClient() || undo.IsStreamingServer() {
		r.add(compensationStreaming, at(undo), "%s undoes %s, so it can't stream: remove `stream`", undo.Name(), m.Name())
	}
	compensation := &Compensation{CallConfig: r.compensationCall(service, undo, options.compensation)}
	compensation.ActionField, compensation.ReplyField = r.derive(m, undo)
	return compensation
}

// unshared refuses a compensation that undoes a saga and something else: from its request alone nobody could tell which of them is meant.
func (r *report) unshared(m, undo protoreflect.MethodDescriptor) {
	service, _ := m.Parent().(protoreflect.ServiceDescriptor)
	for first := range actionsOf(service, undo.Name()) {
		if first.FullName() == m.FullName() {
			return // whoever names it later is refused
		}
		for _, one := range []protoreflect.MethodDescriptor{first, m} {
			if options, err := methodOptionsOf(one); err == nil && options.saga != nil {
				r.add(compensationShared, atOption(m, treatyv1.E_Command, commandCompensatedBy),
					"%s undoes %s already, and %s is a saga: write a method of its own that undoes %s", undo.Name(), first.Name(), one.Name(), m.Name())
				return
			}
		}
		return
	}
}

// compensationCall reads how a compensation is called. Where it doesn't say so itself it is called as its action is; when it
// undoes several, the longest of their times count.
func (r *report) compensationCall(service protoreflect.ServiceDescriptor, undo protoreflect.MethodDescriptor, own *treatyv1.Compensation) CallConfig {
	inherited := CallConfig{}
	var discard report // the actions report for themselves
	for action := range actionsOf(service, undo.Name()) {
		options, err := methodOptionsOf(action)
		if err != nil {
			continue
		}
		call := discard.commandCall(action, options.command)
		inherited.Timeout = max(inherited.Timeout, call.Timeout)
		inherited.Retry.InitialInterval = max(inherited.Retry.InitialInterval, call.Retry.InitialInterval)
		inherited.Retry.MaxInterval = max(inherited.Retry.MaxInterval, call.Retry.MaxInterval)
	}
	where := atOption(undo, treatyv1.E_Compensation)
	return CallConfig{
		Method: methodName(undo),
		Input:  undo.Input(),
		Output: undo.Output(),
		Timeout: r.duration(where.below(compensationTimeout), durationParams{
			name: "timeout", value: own.GetTimeout(), otherwise: inherited.Timeout, most: maxTimeout,
		}),
		Retry:    r.retry(where.below(compensationRetry), own.GetRetry(), inherited.Retry),
		Outcomes: r.outcomes(where.below(compensationOutcomes), own.GetOutcomes()),
	}
}

// derive finds the fields of a compensation's request that take the action's request and reply.
func (r *report) derive(action, undo protoreflect.MethodDescriptor) (actionField, replyField protoreflect.FieldNumber) {
	asked, happened := action.Input().FullName(), action.Output().FullName()
	unclear := false // whether a field would have been the action's if it had been right
	take := func(field protoreflect.FieldDescriptor, number *protoreflect.FieldNumber, what string) {
		if wrong := misshaped(field, what); wrong != "" {
			encoding := ""
			if field.Kind() == protoreflect.GroupKind && field.Syntax() == protoreflect.Editions {
				encoding = " [features.message_encoding = LENGTH_PREFIXED]"
			}
			r.add(compensationFieldShape, at(field), "%s takes the %s of %s, so it can't be %s: write `%s %s = %d%s;`",
				field.Name(), what, action.Name(), wrong, field.Message().FullName(), field.Name(), field.Number(), encoding)
			unclear = unclear || what == "request"
			return
		}
		if *number != 0 {
			r.add(compensationFieldDuplicate, at(field), "%s is the second field for the %s of %s: keep one of the two", field.Name(), what, action.Name())
			return
		}
		*number = field.Number()
	}
	fields := undo.Input().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		var kind protoreflect.FullName
		if message := field.Message(); message != nil && !field.IsMap() {
			kind = message.FullName()
		}
		switch {
		case kind == asked && asked == happened && field.Name() == "action", kind == asked && asked != happened:
			take(field, &actionField, "request")
		case kind == happened && asked == happened && field.Name() == "reply", kind == happened && asked != happened:
			take(field, &replyField, "reply")
		case kind == asked:
			unclear = true
			r.add(compensationFieldAmbiguous, at(field), "%s may be the request or the reply of %s, as both are %s: name the one field action, and the other, where there is one, reply",
				field.Name(), action.Name(), asked)
		default:
			r.add(compensationFieldForeign, at(field),
				"nothing fills %s, as the request of %s is built from the request of %s (%s) and its reply (%s): remove it, and read what it held from one of those two",
				field.Name(), undo.Name(), action.Name(), asked, happened)
		}
	}
	if actionField == 0 && !unclear {
		r.add(compensationActionMissing, at(undo.Input()), "%s has no field for the request of %s: write `%s action = %d;`",
			undo.Input().Name(), action.Name(), asked, freeNumber(undo.Input()))
	}
	return actionField, replyField
}

// misshaped tells why a field can't take a message; empty when it can.
func misshaped(field protoreflect.FieldDescriptor, what string) string {
	oneof := field.ContainingOneof()
	switch {
	case field.IsList():
		return "repeated"
	case oneof != nil && !oneof.IsSynthetic():
		return "in a oneof"
	case field.Kind() == protoreflect.GroupKind:
		return "delimited"
	case what == "reply" && field.Cardinality() == protoreflect.Required:
		return "required"
	}
	return ""
}

// freeNumber returns the lowest number that no field of the message has.
func freeNumber(message protoreflect.MessageDescriptor) protoreflect.FieldNumber {
	number := protoreflect.FieldNumber(1)
	for message.Fields().ByNumber(number) != nil || message.ReservedRanges().Has(number) {
		number++
	}
	return number
}

// undoName is the name that a compensation should have when it is to be written anew.
func undoName(written string, action protoreflect.MethodDescriptor) protoreflect.Name {
	if name := protoreflect.Name(written); name.IsValid() {
		return name
	}
	return "Undo" + action.Name()
}
