package contract

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// CompensationRequest builds the serialized request of a compensation from the serialized request and reply of its
// action, according to the plan in the journal. It needs no descriptors and doesn't read the messages. A nil reply
// means that the reply is unknown: it is left out. An empty reply is written as an empty message. The same arguments
// give the same bytes.
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

// compensation reads the method named name, which the command action has in compensated_by. It returns nil if there is
// no such method.
func (r *report) compensation(action protoreflect.MethodDescriptor, name string) *Compensation {
	where := atOption(action, treatyv1.E_Command, commandCompensatedBy)
	service, _ := action.Parent().(protoreflect.ServiceDescriptor)
	method := methodNamed(service, name)
	switch {
	case method == nil && name == "":
		r.add(compensationUnknown, where,
			"compensated_by is empty: write the name of the method of %s that compensates %s",
			service.Name(), action.Name())
		return nil
	case method == nil:
		r.add(compensationUnknown, where, "%s has no method %q to compensate %s: "+
			"write the name of one of its methods, without package and service, or add `rpc %s`",
			service.Name(), name, action.Name(), suggestedName(name, action))
		return nil
	case method.FullName() == action.FullName():
		r.add(compensationSelf, where,
			"%s can't compensate itself: write another method, whose request has a field of type %s",
			action.Name(), action.Input().FullName())
		return nil
	}
	options, ok := r.methodOptions(method)
	if !ok {
		return nil
	}
	if options.command != nil {
		r.add(compensationIsCommand, atOption(method, treatyv1.E_Command),
			"%s compensates %s, so it can't be a command: "+
				"remove its (treaty.v1.command), and set its times in (treaty.v1.compensation)", method.Name(),
			action.Name())
	}
	if options.saga != nil {
		r.add(compensationIsSaga, atOption(method, treatyv1.E_Saga),
			"%s compensates %s, so it can't be a saga: remove (treaty.v1.saga), or make %s a pivot or retriable",
			method.Name(), action.Name(), action.Name())
	}
	r.unshared(action, method)
	if method.IsStreamingClient() || method.IsStreamingServer() {
		r.add(compensationStreaming, at(method), "%s compensates %s, so it can't stream: remove `stream`",
			method.Name(), action.Name())
	}
	compensation := &Compensation{CallConfig: r.compensationCall(service, method, options.compensation)}
	compensation.ActionField, compensation.ReplyField = r.derive(action, method)
	return compensation
}

// unshared reports a compensation of a saga that also compensates something else. The violation is at the second action
// that names it.
func (r *report) unshared(action, compensation protoreflect.MethodDescriptor) {
	service, _ := action.Parent().(protoreflect.ServiceDescriptor)
	for first := range actionsOf(service, compensation.Name()) {
		if first.FullName() == action.FullName() {
			return
		}
		for _, one := range []protoreflect.MethodDescriptor{first, action} {
			if options, err := methodOptionsOf(one); err == nil && options.saga != nil {
				r.add(compensationShared, atOption(action, treatyv1.E_Command, commandCompensatedBy),
					"%s already compensates %s, and %s is a saga: write another method that compensates %s",
					compensation.Name(), first.Name(), one.Name(), action.Name())
				return
			}
		}
		return
	}
}

// compensationCall reads how a compensation is called. What its own option leaves out is inherited from its action. If
// it has several actions, it inherits the longest of their times.
func (r *report) compensationCall(
	service protoreflect.ServiceDescriptor, method protoreflect.MethodDescriptor, own *treatyv1.Compensation,
) CallConfig {
	inherited := CallConfig{}
	var discard report // the actions report their own violations
	for action := range actionsOf(service, method.Name()) {
		options, err := methodOptionsOf(action)
		if err != nil {
			continue
		}
		call := discard.commandCall(action, options.command)
		inherited.Timeout = max(inherited.Timeout, call.Timeout)
		inherited.Retry.InitialInterval = max(inherited.Retry.InitialInterval, call.Retry.InitialInterval)
		inherited.Retry.MaxInterval = max(inherited.Retry.MaxInterval, call.Retry.MaxInterval)
	}
	where := atOption(method, treatyv1.E_Compensation)
	return CallConfig{
		Method: methodName(method),
		Input:  method.Input(),
		Output: method.Output(),
		Timeout: r.duration(where.below(compensationTimeout), durationParams{
			name: "timeout", value: own.GetTimeout(), otherwise: inherited.Timeout, most: maxTimeout,
		}),
		Retry:    r.retry(where.below(compensationRetry), own.GetRetry(), inherited.Retry),
		Outcomes: r.outcomes(where.below(compensationOutcomes), own.GetOutcomes()),
	}
}

// derive finds the fields of a compensation's request that hold the action's request and reply.
func (r *report) derive(
	action, compensation protoreflect.MethodDescriptor,
) (actionField, replyField protoreflect.FieldNumber) {
	request, reply := action.Input().FullName(), action.Output().FullName()
	reported := false // a violation already says what is wrong with the field for the action's request
	use := func(field protoreflect.FieldDescriptor, number *protoreflect.FieldNumber, what string) {
		if wrong := misshaped(field, what); wrong != "" {
			encoding := ""
			if field.Kind() == protoreflect.GroupKind && field.Syntax() == protoreflect.Editions {
				encoding = " [features.message_encoding = LENGTH_PREFIXED]"
			}
			r.add(compensationFieldShape, at(field), "%s holds the %s of %s, so it can't be %s: write `%s %s = %d%s;`",
				field.Name(), what, action.Name(), wrong, field.Message().FullName(), field.Name(), field.Number(),
				encoding)
			reported = reported || what == "request"
			return
		}
		if *number != 0 {
			r.add(compensationFieldDuplicate, at(field), "%s is the second field for the %s of %s: keep one of the two",
				field.Name(), what, action.Name())
			return
		}
		*number = field.Number()
	}
	fields := compensation.Input().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		var kind protoreflect.FullName
		if message := field.Message(); message != nil && !field.IsMap() {
			kind = message.FullName()
		}
		switch {
		case kind == request && request == reply && field.Name() == "action", kind == request && request != reply:
			use(field, &actionField, "request")
		case kind == reply && request == reply && field.Name() == "reply", kind == reply && request != reply:
			use(field, &replyField, "reply")
		case kind == request:
			reported = true
			r.add(compensationFieldAmbiguous, at(field),
				"%s could be the request or the reply of %s, because both are %s: "+
					"name the field for the request action and the field for the reply, if there is one, reply",
				field.Name(), action.Name(), request)
		default:
			r.add(compensationFieldForeign, at(field), "nothing fills %s, because the request of %s is built from "+
				"the request of %s (%s) and its reply (%s): remove it, and read the value from one of those two",
				field.Name(), compensation.Name(), action.Name(), request, reply)
		}
	}
	if actionField == 0 && !reported {
		r.add(compensationActionMissing, at(compensation.Input()),
			"%s has no field for the request of %s: write `%s action = %d;`",
			compensation.Input().Name(), action.Name(), request, freeNumber(compensation.Input()))
	}
	return actionField, replyField
}

// misshaped returns why a field can't hold a message, or nothing if it can.
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

// freeNumber returns the lowest unused field number of a message.
func freeNumber(message protoreflect.MessageDescriptor) protoreflect.FieldNumber {
	number := protoreflect.FieldNumber(1)
	for message.Fields().ByNumber(number) != nil || message.ReservedRanges().Has(number) {
		number++
	}
	return number
}

// suggestedName returns the name to suggest for a missing compensation.
func suggestedName(written string, action protoreflect.MethodDescriptor) protoreflect.Name {
	if name := protoreflect.Name(written); name.IsValid() {
		return name
	}
	return "Undo" + action.Name()
}

// CompensationSize returns the size of the request of a compensation whose action has a request and a reply of these
// sizes, in bytes. It is that of [CompensationRequest] with a reply, and never less than without one.
func CompensationSize(plan *treatyv1.CompensationPlan, action, reply int) int {
	size := 0
	if n := protowire.Number(plan.GetActionField()); n > 0 {
		size += protowire.SizeTag(n) + protowire.SizeBytes(action)
	}
	if n := protowire.Number(plan.GetReplyField()); n > 0 {
		size += protowire.SizeTag(n) + protowire.SizeBytes(reply)
	}
	return size
}
