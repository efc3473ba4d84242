package contract

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Change is a change of a contract that breaks open sagas, or those who rely on the contract. Its Descriptor and
// Position are in the new contract: those of what has changed, or of the nearest thing around it that is still there.
// If not even its file is, Descriptor is that of the earlier contract, and Position is empty.
type Change struct { //nolint:errname // it is a finding, like the Violation in it
	Violation

	// Before is the descriptor in the earlier contract.
	Before protoreflect.Descriptor
}

// ChangeRules returns the rules that [CheckChanges] checks, ordered by id.
func ChangeRules() []Rule { return described(changeRules) }

var changeRules = []rule{
	commandNoDelete, commandSameKind, commandSameTypes, commandSameCompensation, compensationNoDelete,
	compensationSameFields, rejectionNoDelete, commandSameBroadcast, outcomeNoWeaken,
	sagaNoDelete, requestIDSame, labelNoDelete, retentionNoShorten,
	eventNoDelete, eventSameKey, redactNoDelete,
}

// CheckChanges compares the contracts in files with those of an earlier version, and returns the changes that break
// open sagas or those who rely on a contract. They are ordered by position. Pass all files after the change, imported
// ones too, so that what was moved to another file is found. The files may break contract rules: see [Check].
//
// It compares only what Treaty's options say. Changes of fields and types are the matter of "buf breaking".
func CheckChanges(before, after []protoreflect.FileDescriptor) []Change {
	c := comparer{after: make(map[protoreflect.FullName]protoreflect.Descriptor),
		files: make(map[string]protoreflect.FileDescriptor)}
	for _, file := range after {
		c.files[file.Path()] = file
		c.index(file)
	}
	for _, file := range before {
		for i := range file.Services().Len() {
			c.service(file.Services().Get(i))
		}
		c.messages(file.Messages())
	}
	slices.SortStableFunc(c.changes, func(a, b Change) int {
		return cmp.Or(
			cmp.Compare(a.Position.Path, b.Position.Path),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
		)
	})
	return c.changes
}

// comparer compares contracts with those before.
type comparer struct {
	after   map[protoreflect.FullName]protoreflect.Descriptor
	files   map[string]protoreflect.FileDescriptor
	changes []Change
}

// index notes the services, methods and messages of a file.
func (c *comparer) index(file protoreflect.FileDescriptor) {
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		c.after[service.FullName()] = service
		for m := range methodsOf(service) {
			c.after[m.FullName()] = m
		}
	}
	var messages func(protoreflect.MessageDescriptors)
	messages = func(all protoreflect.MessageDescriptors) {
		for i := range all.Len() {
			c.after[all.Get(i).FullName()] = all.Get(i)
			messages(all.Get(i).Messages())
		}
	}
	messages(file.Messages())
}

// add notes a change at a place in the new contract.
func (c *comparer) add(broken rule, was protoreflect.Descriptor, now site, format string, args ...any) {
	change := Change{Before: was, Violation: Violation{
		Rule: broken.id, Descriptor: now.desc, Message: fmt.Sprintf(format, args...),
	}}
	change.Position, change.Source = now.position()
	c.changes = append(c.changes, change)
}

// gone notes that something isn't there any more, at what was around it.
func (c *comparer) gone(broken rule, was protoreflect.Descriptor, format string, args ...any) {
	around := was.Parent()
	for ; around != nil; around = around.Parent() {
		if now := c.after[around.FullName()]; now != nil {
			c.add(broken, was, at(now), format, args...)
			return
		}
	}
	if now := c.files[was.ParentFile().Path()]; now != nil {
		c.add(broken, was, at(now), format, args...)
		return
	}
	c.changes = append(c.changes, Change{Before: was, Violation: Violation{
		Rule: broken.id, Descriptor: was, Message: fmt.Sprintf(format, args...),
	}})
}

func (c *comparer) service(service protoreflect.ServiceDescriptor) {
	for was := range methodsOf(service) {
		options, err := methodOptionsOf(was)
		if err != nil {
			continue // it wasn't a contract that anybody could use
		}
		compensates := false
		for range actionsOf(service, was.Name()) {
			compensates = true
		}
		if options.command == nil && options.saga == nil && !compensates {
			continue
		}
		now, is := c.after[was.FullName()].(protoreflect.MethodDescriptor)
		if !is {
			c.goneMethod(was, options)
			continue
		}
		c.types(was, now)
		after, err := methodOptionsOf(now)
		if err != nil {
			continue // Check reports it
		}
		if options.command != nil {
			c.command(was, now, options.command, after.command)
		}
		if options.saga != nil {
			c.saga(was, now, options.saga, after.saga)
		}
	}
}

func (c *comparer) goneMethod(was protoreflect.MethodDescriptor, options methodOptions) {
	const removed = "%s is gone: keep it until no open saga needs it, and add a new %s beside it"
	switch {
	case options.saga != nil:
		c.gone(sagaNoDelete, was, removed, was.FullName(), "saga")
	case options.command != nil:
		c.gone(commandNoDelete, was, removed, was.FullName(), "command")
	default:
		c.gone(compensationNoDelete, was,
			"%s is gone, and journals name it to undo steps: keep it until no saga can be compensated by it",
			was.FullName())
	}
}

// types compares the types of a method.
func (c *comparer) types(was, now protoreflect.MethodDescriptor) {
	if was.Input().FullName() != now.Input().FullName() {
		c.add(commandSameTypes, was, at(now), "the request of %s was %s, and journals hold it: write that again, or "+
			"add a new method", was.Name(), was.Input().FullName())
	}
	if was.Output().FullName() != now.Output().FullName() {
		c.add(commandSameTypes, was, at(now), "the reply of %s was %s, and journals hold it: write that again, or "+
			"add a new method", was.Name(), was.Output().FullName())
	}
	if !was.IsStreamingClient() && !was.IsStreamingServer() && (now.IsStreamingClient() || now.IsStreamingServer()) {
		c.add(commandSameTypes, was, at(now), "%s streams now, so no saga can call it: remove `stream`, or add a new "+
			"method", was.Name())
	}
}

func (c *comparer) command(was, now protoreflect.MethodDescriptor, before, after *treatyv1.Command) {
	if after == nil {
		c.add(commandNoDelete, was, at(now), "%s is no command any more: write its (treaty.v1.command) again until no "+
			"open saga needs it", was.Name())
		return
	}
	var discard report // Check reports what is wrong with the new one
	earlier, later := discard.command(was, before), discard.command(now, after)
	where := atOption(now, treatyv1.E_Command)
	c.kind(was, now, earlier.Kind, later.Kind)
	if earlier.Compensation != nil && later.Compensation != nil {
		c.compensation(was, now, earlier.Compensation, later.Compensation)
	}
	for _, rejection := range earlier.Rejections {
		if !slices.Contains(later.Rejections, rejection) {
			c.add(rejectionNoDelete, was, where.below(commandRejections), "%s no longer has the rejection %s, which "+
				"saga code may handle: add it again", was.Name(), rejection)
		}
	}
	if earlier.Broadcast != later.Broadcast {
		became := "isn't a broadcast any more"
		if later.Broadcast {
			became = "is a broadcast now"
		}
		c.add(commandSameBroadcast, was, where.below(commandBroadcast), "%s %s, and journals have its other steps: "+
			"add a new command instead", was.Name(), became)
	}
	c.outcomes(was, where.below(commandOutcomes), &earlier.CallConfig, &later.CallConfig)
}

// relied says by kind what sagas rely on.
var relied = map[treatyv1.CommandKind]string{
	treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE: "sagas rely on its being undone",
	treatyv1.CommandKind_COMMAND_KIND_PIVOT:         "sagas rely on its being refused or done, once",
	treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:     "sagas send it after their pivot, and rely on its being done",
	treatyv1.CommandKind_COMMAND_KIND_QUERY:         "sagas send it anywhere, and rely on its changing nothing",
}

var kindNames = map[treatyv1.CommandKind]string{
	treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE: "compensatable",
	treatyv1.CommandKind_COMMAND_KIND_PIVOT:         "a pivot",
	treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:     "retriable",
	treatyv1.CommandKind_COMMAND_KIND_QUERY:         "a query",
}

func (c *comparer) kind(was, now protoreflect.MethodDescriptor, before, after treatyv1.CommandKind) {
	if KindChangeBreaks(before, after) {
		c.add(commandSameKind, was, atOption(now, treatyv1.E_Command), "%s was %s and is %s, but %s: write the "+
			"earlier kind again, or add a new command", was.Name(), kindNames[before], kindNames[after], relied[before])
	}
}

// KindChangeBreaks reports whether sagas break when the kind of a command changes. Only one change is harmless: a pivot
// that becomes compensatable, because all that may follow a pivot may follow a compensatable command. An unspecified
// kind breaks a rule of its own.
func KindChangeBreaks(before, after treatyv1.CommandKind) bool {
	const unspecified = treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED
	return before != after && before != unspecified && after != unspecified &&
		(before != treatyv1.CommandKind_COMMAND_KIND_PIVOT || after != treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE)
}

func (c *comparer) compensation(was, now protoreflect.MethodDescriptor, before, after *Compensation) {
	if before.Method != after.Method {
		c.add(commandSameCompensation, was, atOption(now, treatyv1.E_Command, commandCompensatedBy),
			"%s was compensated by %s, which journals name: write that again, or add a new command", was.Name(),
			before.Method)
		return
	}
	where := at(now)
	if service, is := now.Parent().(protoreflect.ServiceDescriptor); is {
		if method := methodNamed(service, string(methodOf(after.Method))); method != nil {
			where = at(method.Input())
		}
	}
	const moved = "journals write the %s of %s to field %d of %s, which was %s: give the field that number again"
	input := before.Input
	if old := before.ActionField; old != 0 && old != after.ActionField {
		c.add(compensationSameFields, was, where, moved, "request", was.Name(), old, input.Name(),
			input.Fields().ByNumber(old).Name())
	}
	if old := before.ReplyField; old != 0 && old != after.ReplyField {
		c.add(compensationSameFields, was, where, moved, "reply", was.Name(), old, input.Name(),
			input.Fields().ByNumber(old).Name())
	}
}

// outcomes compares what gRPC codes say about whether a command was executed.
func (c *comparer) outcomes(was protoreflect.MethodDescriptor, where site, before, after *CallConfig) {
	names := make(map[codes.Code]string)
	for name, code := range codeNames {
		names[code] = name
	}
	for _, code := range slices.Sorted(maps.Keys(after.Outcomes)) {
		now := OutcomeOf(after, code)
		if OutcomeOf(before, code) == treatyv1.Outcome_OUTCOME_UNKNOWN && now != treatyv1.Outcome_OUTCOME_UNKNOWN {
			c.add(outcomeNoWeaken, was, where, "%s of %s could mean that the command was executed, and is %s now: "+
				"remove that outcome, or add a new command", names[code], after.Method, now)
		}
	}
}

func (c *comparer) saga(was, now protoreflect.MethodDescriptor, before, after *treatyv1.SagaOptions) {
	if after == nil {
		c.add(sagaNoDelete, was, at(now), "%s is no saga any more: write its (treaty.v1.saga) again until no saga of "+
			"it is open", was.Name())
		return
	}
	var discard report
	earlier, later := discard.saga(was, before), discard.saga(now, after)
	if earlier.RequestID != nil && (later.RequestID == nil || later.RequestID.Number() != earlier.RequestID.Number()) {
		c.add(requestIDSame, was, c.field(earlier.RequestID, now),
			"the request id of %s was %s, and a repeated start would start a second saga: write "+
				"`[(treaty.v1.request_id) = true]` there again", was.Name(), earlier.RequestID.Name())
	}
	for _, label := range earlier.Labels {
		same := func(l protoreflect.FieldDescriptor) bool { return l.Name() == label.Name() }
		if !slices.ContainsFunc(later.Labels, same) {
			c.add(labelNoDelete, was, c.field(label, now),
				"%s no longer has the label %s, by which sagas are searched: write `[(treaty.v1.label) = true]` there "+
					"again", was.Name(), label.Name())
		}
	}
	if later.Retention != 0 && (earlier.Retention == 0 || later.Retention < earlier.Retention) {
		kept := "what the orchestrator's setting says, by default forever"
		if earlier.Retention != 0 {
			kept = earlier.Retention.String()
		}
		c.add(retentionNoShorten, was, atOption(now, treatyv1.E_Saga, sagaRetention),
			"%s was kept for %s and is kept for %s: sagas that ended earlier are deleted at once; write at least the "+
				"earlier time", was.Name(), kept, later.Retention)
	}
}

// field returns the place of a field of a saga's request in the new contract, or else of the saga.
func (c *comparer) field(was protoreflect.FieldDescriptor, saga protoreflect.MethodDescriptor) site {
	if message, is := c.after[was.Parent().FullName()].(protoreflect.MessageDescriptor); is {
		if now := message.Fields().ByNumber(was.Number()); now != nil {
			return at(now)
		}
		return at(message)
	}
	return at(saga)
}

// messages compares the events and the redacted fields among messages, and in those nested in them.
func (c *comparer) messages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		was := messages.Get(i)
		now, _ := c.after[was.FullName()].(protoreflect.MessageDescriptor)
		c.event(was, now)
		if now != nil {
			c.redacted(was, now)
		}
		c.messages(was.Messages())
	}
}

// event compares an event. now is nil if the message is gone.
func (c *comparer) event(was, now protoreflect.MessageDescriptor) {
	var discard report
	before := discard.event(was)
	if before == nil || before.Key == nil {
		return
	}
	if now == nil {
		c.gone(eventNoDelete, was, "%s is gone, and sagas may await it: keep it until none does", was.FullName())
		return
	}
	after := discard.event(now)
	switch {
	case after == nil:
		c.add(eventNoDelete, was, at(now), "%s is no event any more, and sagas may await it: write `option "+
			"(treaty.v1.event) = {};` again", was.Name())
	case after.Key != nil && after.Key.Number() != before.Key.Number():
		c.add(eventSameKey, was, atFieldOption(after.Key, treatyv1.E_CorrelationKey),
			"the correlation key of %s was %s, and sagas that await its value are never woken: write "+
				"`[(treaty.v1.correlation_key) = true]` there again, or add a new event", was.Name(), before.Key.Name())
	}
}

func (c *comparer) redacted(was, now protoreflect.MessageDescriptor) {
	for i := range was.Fields().Len() {
		before := was.Fields().Get(i)
		after := now.Fields().ByNumber(before.Number())
		if after != nil && isRedacted(before) && !isRedacted(after) {
			c.add(redactNoDelete, before, at(after), "%s of %s was debug_redact, and would be shown now: write "+
				"`[debug_redact = true]` again", after.Name(), now.Name())
		}
	}
}

// methodOf returns the last part of a method's name: "RestoreAddress" of
// "acme.customer.v1.CustomerService/RestoreAddress".
func methodOf(name string) protoreflect.Name {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return protoreflect.Name(name[i+1:])
		}
	}
	return protoreflect.Name(name)
}
