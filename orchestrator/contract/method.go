package contract

import (
	"iter"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// methodName returns a method's name without a leading slash, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
func methodName(m protoreflect.MethodDescriptor) string {
	return string(m.Parent().FullName()) + "/" + string(m.Name())
}

// CommandOf reads the command that a method describes, and fills in all defaults. It returns nil if the method is not a
// command. The error joins all violations of the command and its compensation.
func CommandOf(m protoreflect.MethodDescriptor) (*Command, error) {
	var r report
	options, ok := r.methodOptions(m)
	if !ok || options.command == nil {
		return nil, r.err()
	}
	command := r.command(m, options.command)
	if err := r.err(); err != nil {
		return nil, err
	}
	return command, nil
}

// SagaDefinitionOf reads the saga definition that a method describes. It returns nil if the method is not a saga. The
// error joins all violations of the definition, of the annotations of its request and, if the definition is also a
// command, of the command.
func SagaDefinitionOf(m protoreflect.MethodDescriptor) (*SagaDefinition, error) {
	var r report
	options, ok := r.methodOptions(m)
	if !ok || options.saga == nil {
		return nil, r.err()
	}
	saga := r.saga(m, options.saga)
	if options.command != nil {
		command := r.command(m, options.command)
		saga.Kind, saga.Compensation = command.Kind, command.Compensation
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return saga, nil
}

func (r *report) methodOptions(m protoreflect.MethodDescriptor) (methodOptions, bool) {
	options, err := methodOptionsOf(m)
	if err != nil {
		r.unreadable(m)
		return options, false
	}
	r.understood(m)
	return options, true
}

func (r *report) command(m protoreflect.MethodDescriptor, options *treatyv1.Command) *Command {
	where := atOption(m, treatyv1.E_Command)
	if m.IsStreamingClient() || m.IsStreamingServer() {
		r.add(commandStreaming, at(m), "%s is a command, so it can't stream: remove `stream`", m.Name())
	}
	command := &Command{
		CallConfig: r.commandCall(m, options),
		Kind:       kindOf(options),
		Broadcast:  options.GetBroadcast(),
		Rejections: r.rejections(where.below(commandRejections), m.ParentFile(), options.GetRejections()),
	}
	switch command.Kind {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		if command.Compensation = r.compensation(m, options.GetCompensatedBy()); command.Compensation != nil {
			command.Compensation.SafeRefusals = options.GetSafeRefusals()
		}
	case treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		if options.GetRetry().GetGiveUpAfter() != nil {
			r.add(retriableGivesUp, where.below(commandRetry, retryGiveUpAfter),
				"%s is retriable, so it is retried until it is done: remove give_up_after", m.Name())
		}
		if options.GetCompleteWithin() != nil {
			r.add(retriableGivesUp, where.below(commandComplete),
				"%s is retriable, so its saga waits until it is done: remove complete_within", m.Name())
		}
	case treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED:
		if len(options.ProtoReflect().GetUnknown()) > 0 {
			break // it may be a kind, and understood reports it
		}
		r.add(commandKindMissing, where,
			"%s has no kind: write one of `compensated_by: \"...\"`, `pivot: {}`, `retriable: {}`, `query: {}`",
			m.Name())
	}
	if !command.Broadcast {
		return command
	}
	if command.Kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
		r.add(broadcastPivot, where.below(commandBroadcast),
			"%s goes to several participants, so it can't be a pivot: make it compensatable or retriable", m.Name())
	}
	if all, err := methodOptionsOf(m); err == nil && all.saga != nil {
		r.add(broadcastIsSaga, where.below(commandBroadcast),
			"%s is a saga, so it can't be a broadcast: remove broadcast", m.Name())
	}
	return command
}

// commandCall reads how a command is called.
func (r *report) commandCall(m protoreflect.MethodDescriptor, options *treatyv1.Command) CallConfig {
	where := atOption(m, treatyv1.E_Command)
	otherwise := Retry{InitialInterval: DefaultInitialInterval, MaxInterval: DefaultMaxInterval}
	switch kindOf(options) {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, treatyv1.CommandKind_COMMAND_KIND_QUERY:
		otherwise.GiveUpAfter = DefaultGiveUpAfter
	}
	return CallConfig{
		Method: methodName(m),
		Input:  m.Input(),
		Output: m.Output(),
		Timeout: r.duration(where.below(commandTimeout), durationParams{
			name: "timeout", value: options.GetTimeout(), otherwise: DefaultTimeout, most: maxTimeout,
		}),
		Retry: r.retry(where.below(commandRetry), options.GetRetry(), otherwise),
		CompleteWithin: r.duration(where.below(commandComplete), durationParams{
			name: "complete_within", value: options.GetCompleteWithin(), most: maxCompleteWithin,
		}),
		SafeRefusals: options.GetSafeRefusals(),
		Outcomes:     r.outcomes(where.below(commandOutcomes), options.GetOutcomes()),
	}
}

func kindOf(options *treatyv1.Command) treatyv1.CommandKind {
	switch options.GetKind().(type) {
	case *treatyv1.Command_CompensatedBy:
		return treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
	case *treatyv1.Command_Pivot:
		return treatyv1.CommandKind_COMMAND_KIND_PIVOT
	case *treatyv1.Command_Retriable:
		return treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	case *treatyv1.Command_Query:
		return treatyv1.CommandKind_COMMAND_KIND_QUERY
	}
	return treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED
}

// rejections reads the names of rejections at s.
func (r *report) rejections(s site, file protoreflect.FileDescriptor, names []string) []protoreflect.FullName {
	var rejections []protoreflect.FullName
	if len(names) == 0 {
		return nil
	}
	known := messagesOf(file)
	for i, written := range names {
		entry, name := s.below(int32(i)), protoreflect.FullName(written)
		relative := file.Package().Append(protoreflect.Name(written))
		switch {
		case slices.Contains(rejections, name):
			r.add(rejectionDuplicate, entry, "the rejection %q is named twice: remove one", written)
			continue
		case known.has(name):
		case known.has(relative):
			r.add(rejectionUnknown, entry, "%q is not a full name: write %q", written, relative)
		default:
			r.add(rejectionUnknown, entry,
				"%s can't resolve message %q: write a full name, e.g. %q, and import its file",
				file.Path(), written, file.Package().Append("SomethingRefused"))
		}
		rejections = append(rejections, name)
	}
	return rejections
}

// fileSet is a file and all its direct and indirect imports.
type fileSet struct{ files protoregistry.Files }

func messagesOf(file protoreflect.FileDescriptor) *fileSet {
	set := new(fileSet)
	set.add(file)
	return set
}

func (s *fileSet) add(file protoreflect.FileDescriptor) {
	if file.IsPlaceholder() {
		return
	}
	if _, err := s.files.FindFileByPath(file.Path()); err == nil {
		return
	}
	// Registering can't fail: files that were compiled together don't clash.
	_ = s.files.RegisterFile(file)
	imports := file.Imports()
	for i := range imports.Len() {
		s.add(imports.Get(i).FileDescriptor)
	}
}

func (s *fileSet) has(name protoreflect.FullName) bool {
	d, err := s.files.FindDescriptorByName(name)
	if err != nil {
		return false
	}
	_, isMessage := d.(protoreflect.MessageDescriptor)
	return isMessage
}

// methodNamed returns the method of a service with a name, or nil.
func methodNamed(service protoreflect.ServiceDescriptor, name string) protoreflect.MethodDescriptor {
	return service.Methods().ByName(protoreflect.Name(name))
}

// methodsOf yields the methods of a service in the order of the file.
func methodsOf(service protoreflect.ServiceDescriptor) iter.Seq[protoreflect.MethodDescriptor] {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		for i := range service.Methods().Len() {
			if !yield(service.Methods().Get(i)) {
				return
			}
		}
	}
}

// actionsOf yields the commands of a service that name a method as their compensation.
func actionsOf(
	service protoreflect.ServiceDescriptor, compensation protoreflect.Name,
) iter.Seq[protoreflect.MethodDescriptor] {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		for m := range methodsOf(service) {
			options, err := methodOptionsOf(m)
			if err != nil || options.command.GetCompensatedBy() != string(compensation) {
				continue
			}
			if !yield(m) {
				return
			}
		}
	}
}
