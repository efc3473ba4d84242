package contract

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (r *report) saga(m protoreflect.MethodDescriptor, options *treatyv1.SagaOptions) *SagaDefinition {
	where := atOption(m, treatyv1.E_Saga)
	if m.IsStreamingClient() || m.IsStreamingServer() {
		r.add(sagaStreaming, at(m), "%s is a saga, so it can't stream: remove `stream`", m.Name())
	}
	saga := &SagaDefinition{
		Definition: methodName(m),
		Input:      m.Input(),
		Output:     m.Output(),
		Deadline: r.duration(where.below(sagaDeadline), durationParams{
			name: "deadline", value: options.GetDeadline(), most: maxDeadline,
		}),
		Retention: r.duration(where.below(sagaRetention), durationParams{
			name: "retention", value: options.GetRetention(), least: minRetention, most: maxRetention,
		}),
	}
	saga.RequestID, saga.Labels = r.annotations(m.Input())
	return saga
}

// annotations reads the request id and the labels of a saga's request.
func (r *report) annotations(
	message protoreflect.MessageDescriptor,
) (requestID protoreflect.FieldDescriptor, labels []protoreflect.FieldDescriptor) {
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		options, ok := r.fieldOptions(field)
		if !ok {
			continue
		}
		if options.requestID {
			where := atFieldOption(field, treatyv1.E_RequestId)
			switch {
			case field.Kind() != protoreflect.StringKind || field.Cardinality() == protoreflect.Repeated:
				r.add(requestIDType, where, "the request id %s must be a single string: write `string %s = %d`",
					field.Name(), field.Name(), field.Number())
			case options.redacted:
				r.add(fieldRedacted, where,
					"the request id %s is shown and compared, so it can't be debug_redact: remove one of the two "+
						"options", field.Name())
			}
			if requestID != nil {
				r.add(requestIDDuplicate, where, "%s already has the request id %s: remove the option here",
					message.Name(), requestID.Name())
				continue
			}
			requestID = field
		}
		if options.label {
			where := atFieldOption(field, treatyv1.E_Label)
			switch {
			case !canBeLabel(field):
				r.add(labelType, where,
					"the label %s must be a single string, number, bool or enum: remove the option or move it to "+
						"such a field", field.Name())
			case options.redacted:
				r.add(fieldRedacted, where,
					"the label %s is indexed and shown, so it can't be debug_redact: remove one of the options",
					field.Name())
			}
			labels = append(labels, field)
			if len(labels) == maxLabels+1 {
				r.add(labelTooMany, where, "%s has more than %d labels: keep those that you search by", message.Name(),
					maxLabels)
			}
		}
	}
	return requestID, labels
}

// canBeLabel reports whether a field can be a label.
func canBeLabel(field protoreflect.FieldDescriptor) bool {
	if field.Cardinality() == protoreflect.Repeated {
		return false
	}
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind, protoreflect.BytesKind:
		return false
	}
	return true
}

func (r *report) fieldOptions(field protoreflect.FieldDescriptor) (fieldOptions, bool) {
	options, err := fieldOptionsOf(field)
	if err != nil {
		r.unreadable(field)
		return options, false
	}
	r.understood(field)
	return options, true
}
