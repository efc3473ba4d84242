package contracts

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/reflection"
)

// Report is the result of a check.
type Report struct {
	// Checked are the services of the file that the participant serves, and Absent the others, which other participants
	// serve. Both are sorted.
	Checked []protoreflect.FullName `json:"checked,omitempty"`
	Absent  []protoreflect.FullName `json:"absent,omitempty"`

	// Problems are the expectations that don't hold. Without any, the sagas can go on calling the participant.
	Problems []Finding `json:"problems,omitempty"`

	// Notes are changes that break nothing, but that the sagas don't know yet.
	Notes []Finding `json:"notes,omitempty"`
}

// Finding is a difference between what sagas expect and what a participant offers.
type Finding struct {
	// Subject is the method, or the service if there is no such method: "acme.card.v1.CardService/IssueCard".
	Subject string `json:"subject"`

	// Place is the message, e.g. "reply acme.card.v1.CardIssued", or empty if the finding is about the method.
	Place string `json:"place,omitempty"`

	// Text says what differs, e.g. "field 2 card_number: was string, is int64".
	Text string `json:"text"`

	// Sagas are the saga definitions that call the method, or that send or receive the message, sorted.
	Sagas []string `json:"sagas"`
}

// String returns the finding in one line, without the sagas.
func (f Finding) String() string {
	if f.Place == "" {
		return f.Subject + ": " + f.Text
	}
	return f.Subject + ": " + f.Place + ": " + f.Text
}

// Holds reports whether the participant meets all expectations.
func (r *Report) Holds() bool { return len(r.Problems) == 0 }

// Text returns the report for people: a paragraph for each problem with the sagas that need it, a line for each note,
// and at the end what was checked.
func (r *Report) Text() string {
	var out strings.Builder
	for _, problem := range r.Problems {
		fmt.Fprintf(&out, "%s\n  needed by %s\n", problem, strings.Join(problem.Sagas, ", "))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "Note: %s\n", note)
	}
	switch {
	case r.Holds():
		fmt.Fprintf(&out, "The participant meets what sagas expect of %s.\n", joined(r.Checked))
	case len(r.Checked) > 0:
		fmt.Fprintf(&out, "%s for %s.\n", count(len(r.Problems)), joined(r.Checked))
	default:
		fmt.Fprintf(&out, "%s.\n", count(len(r.Problems)))
	}
	if len(r.Checked) > 0 && len(r.Absent) > 0 {
		fmt.Fprintf(&out, "Not served here, so not checked: %s.\n", joined(r.Absent))
	}
	return out.String()
}

func count(problems int) string {
	if problems == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", problems)
}

// Check compares what a participant offers with a file. It asks types, and so the participant's server reflection, for
// its services and their descriptors. It calls none of the participant's own methods.
//
// services are the full names of the services that the participant must serve. Without any, those services of the file
// are checked that it serves; if it serves none, each of them is a problem.
//
// An error means that nothing could be compared: the participant isn't reachable or has no reflection, or the file
// expects nothing of one of the services. It wraps the gRPC status if there is one.
func Check(types *schema.Schema, file *File, services []protoreflect.FullName) (*Report, error) {
	for _, name := range services {
		if file.Services[name] == nil {
			return nil, fmt.Errorf("the file expects nothing of %s: it is about %s", name,
				joined(slices.Sorted(maps.Keys(file.Services))))
		}
	}
	c := &checker{file: file, types: types, report: new(Report)}
	if err := c.ask(); err != nil {
		return nil, explain(err)
	}
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		if len(services) > 0 && !slices.Contains(services, name) {
			continue
		}
		if slices.Contains(c.offered, name) {
			c.report.Checked = append(c.report.Checked, name)
		} else {
			c.report.Absent = append(c.report.Absent, name)
		}
	}
	required := len(services) > 0 || len(c.report.Checked) == 0
	for _, name := range c.report.Absent {
		if err := c.absent(name, required); err != nil {
			return nil, explain(err)
		}
	}
	for _, name := range c.report.Checked {
		service, err := types.Service(name)
		if err != nil {
			return nil, explain(err)
		}
		c.service(service)
	}
	return c.report, nil
}

// explain says what to do about an error of server reflection.
func explain(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("the participant has no server reflection, neither grpc.reflection.v1 nor v1alpha: "+
			"register it at its server: %w", err)
	}
	return fmt.Errorf("asking the participant for its contracts: %w", err)
}

// checker is one check.
type checker struct {
	file    *File
	types   *schema.Schema
	offered []protoreflect.FullName
	report  *Report

	// These are about one service: whether its file is one that the server reflection for Node has made, the messages
	// and enums that were compared, and the sagas that need each of them.
	combined bool
	compared map[protoreflect.FullName]bool
	neededBy map[protoreflect.FullName][]string
}

// ask asks for the services that the participant serves. One without reflection serves those whose descriptors were
// loaded from elsewhere.
func (c *checker) ask() error {
	offered, err := c.types.Services()
	if status.Code(err) == codes.Unimplemented {
		for name := range c.file.Services {
			if _, known := c.types.Service(name); known == nil {
				offered = append(offered, name)
			}
		}
		if len(offered) > 0 {
			err = nil
		}
	}
	c.offered = offered
	return err
}

// absent reports a service that the participant doesn't serve, if it must serve it or seems to serve it under another
// name: one with at least half of the methods, of the same package or with the same name in another one.
func (c *checker) absent(name protoreflect.FullName, required bool) error {
	expected := c.file.Services[name]
	var like []protoreflect.FullName
	for _, other := range c.offered {
		if c.file.Services[other] != nil || infrastructure(other) ||
			other.Name() != name.Name() && other.Parent() != name.Parent() {
			continue
		}
		service, err := c.types.Service(other)
		if code := status.Code(err); code == codes.NotFound || code == codes.Internal {
			continue // served without a descriptor, or with a broken one
		}
		if err != nil {
			return err
		}
		same := 0
		for method := range expected {
			if service.Methods().ByName(method) != nil {
				same++
			}
		}
		if 2*same >= len(expected) {
			like = append(like, other)
		}
	}
	finding := Finding{Subject: string(name), Text: "it isn't served", Sagas: c.sagas(name)}
	if len(like) > 0 {
		finding.Text += "; it may have been renamed to " + joined(like)
	} else {
		served := slices.DeleteFunc(slices.Clone(c.offered), infrastructure)
		finding.Text += "; the participant serves " + cmp.Or(joined(served), "nothing")
	}
	if required || len(like) > 0 {
		c.report.Problems = append(c.report.Problems, finding)
	}
	return nil
}

// infrastructure reports whether a service is one that servers of all kinds have.
func infrastructure(name protoreflect.FullName) bool {
	return strings.HasPrefix(string(name), "grpc.") || strings.HasPrefix(string(name), "treaty.v1.")
}

// sagas returns the saga definitions that call a service, sorted.
func (c *checker) sagas(service protoreflect.FullName) []string {
	var all []string
	for _, method := range c.file.Services[service] {
		for _, saga := range method.Sagas {
			addSorted(&all, saga)
		}
	}
	return all
}

func (c *checker) service(service protoreflect.ServiceDescriptor) {
	c.compared, c.neededBy = make(map[protoreflect.FullName]bool), make(map[protoreflect.FullName][]string)
	expected := c.file.Services[service.FullName()]
	c.combined = reflection.IsCombined(service.ParentFile())
	for _, method := range expected {
		reached := make(map[protoreflect.FullName]bool)
		for _, name := range append([]protoreflect.FullName{method.Request, method.Reply}, method.Handles...) {
			c.file.reach(name, reached)
		}
		for name := range reached {
			for _, saga := range method.Sagas {
				needed := c.neededBy[name]
				addSorted(&needed, saga)
				c.neededBy[name] = needed
			}
		}
	}
	annotated := isAnnotated(service, expected)
	if !annotated {
		finding := Finding{Subject: string(service.FullName()), Sagas: c.sagas(service.FullName())}
		if c.combined {
			finding.Text = "the participant's server reflection leaves out the options of methods, as that for Node " +
				"does: kinds, compensations and rejections aren't compared"
			c.report.Notes = append(c.report.Notes, finding)
		} else {
			finding.Text = "none of its methods has the option (treaty.v1.command) any more, or the participant's " +
				"server reflection leaves out options: nothing says what kinds, compensations and rejections are"
			c.report.Problems = append(c.report.Problems, finding)
		}
	}
	for _, name := range commandsFirst(expected) {
		m := &methodChecker{checker: c, expected: expected[name], sagas: expected[name].Sagas}
		m.subject = string(service.FullName()) + "/" + string(name)
		method := service.Methods().ByName(name)
		if method == nil {
			m.missing(service)
			continue
		}
		m.signature(method)
		if annotated {
			m.annotations(method)
		}
		m.messages(method)
	}
}

// commandsFirst returns the names of methods, sorted: commands, and then compensations, whose requests contain the
// messages of commands. So what differs in those is reported for the command.
func commandsFirst(methods map[protoreflect.Name]*Method) []protoreflect.Name {
	names := slices.Sorted(maps.Keys(methods))
	slices.SortStableFunc(names, func(a, b protoreflect.Name) int {
		return cmp.Compare(order(methods[a]), order(methods[b]))
	})
	return names
}

func order(method *Method) int {
	if method.Kind == drift.Compensation {
		return 1
	}
	return 0
}

// isAnnotated reports whether any method of a service is a command, if one should be. There is none if the
// participant's server reflection leaves out options that it doesn't know.
func isAnnotated(service protoreflect.ServiceDescriptor, expected map[protoreflect.Name]*Method) bool {
	commands := 0
	for name, method := range expected {
		found := service.Methods().ByName(name)
		if method.Kind == drift.Compensation || found == nil {
			continue
		}
		if drift.KindOf(found) != drift.NoCommand {
			return true
		}
		commands++
	}
	return commands == 0
}

// methodChecker checks one method.
type methodChecker struct {
	*checker
	subject  string
	expected *Method
	sagas    []string // that need what is compared
}

// of returns the checker for a message or enum.
func (m *methodChecker) of(name protoreflect.FullName) *methodChecker {
	out := *m
	out.sagas = m.neededBy[name]
	return &out
}

func (m *methodChecker) problem(place, format string, args ...any) {
	m.report.Problems = append(m.report.Problems, Finding{
		Subject: m.subject, Place: place, Text: fmt.Sprintf(format, args...), Sagas: m.sagas,
	})
}

func (m *methodChecker) note(place, format string, args ...any) {
	m.report.Notes = append(m.report.Notes, Finding{
		Subject: m.subject, Place: place, Text: fmt.Sprintf(format, args...), Sagas: m.sagas,
	})
}

// missing reports that the service has no such method, and names a method that it may have become: one that no saga
// calls, with the same messages.
func (m *methodChecker) missing(service protoreflect.ServiceDescriptor) {
	var like []protoreflect.FullName
	for i := range service.Methods().Len() {
		other := service.Methods().Get(i)
		if m.file.Services[service.FullName()][other.Name()] == nil &&
			(other.Input().FullName() == m.expected.Request || other.Output().FullName() == m.expected.Reply) {
			like = append(like, protoreflect.FullName(other.Name()))
		}
	}
	if len(like) > 0 {
		m.problem("", "the method was removed, or renamed to %s", joined(like))
		return
	}
	m.problem("", "the method was removed")
}

// signature compares the types of a method.
func (m *methodChecker) signature(method protoreflect.MethodDescriptor) {
	if request := method.Input().FullName(); request != m.expected.Request {
		m.problem("request", "was %s, is %s", m.expected.Request, request)
	}
	if reply := method.Output().FullName(); reply != m.expected.Reply {
		m.problem("reply", "was %s, is %s", m.expected.Reply, reply)
	}
	if method.IsStreamingClient() || method.IsStreamingServer() {
		m.problem("", "the method was unary, and streams")
	}
}

// annotations compares the kind, the compensation and the rejections of a command.
func (m *methodChecker) annotations(method protoreflect.MethodDescriptor) {
	kind := drift.KindOf(method)
	switch {
	case m.expected.Kind == drift.Compensation && kind != drift.NoCommand:
		m.problem("", "kind: was compensation, is %s", kind)
	case m.expected.Kind == drift.Compensation:
		return
	case kind != m.expected.Kind:
		m.problem("", "kind: was %s, is %s", m.expected.Kind, kind)
	case kind == drift.Compensatable:
		if by := drift.CommandOf(method).GetCompensatedBy(); by != string(m.expected.CompensatedBy) {
			m.problem("", "compensated_by: was %s, is %s", m.expected.CompensatedBy, by)
		}
	}
	declared := drift.Rejections(method)
	for _, name := range m.expected.Handles {
		if !slices.Contains(declared, name) {
			m.problem("", "the rejection %s, which saga code handles, is no longer declared", name)
		}
	}
	for _, name := range declared {
		if !slices.Contains(m.expected.Handles, name) && !slices.Contains(m.expected.Ignores, name) {
			m.note("", "the rejection %s is new; saga code treats it like any other refusal", name)
		}
	}
}

// messages compares the messages of a method with what can be reached from them. A message that differs is reported for
// the first method that uses it only.
func (m *methodChecker) messages(method protoreflect.MethodDescriptor) {
	if name := method.Input().FullName(); name == m.expected.Request {
		m.message(method.Input(), "request "+string(name))
	}
	if name := method.Output().FullName(); name == m.expected.Reply {
		m.message(method.Output(), "reply "+string(name))
	}
	for _, name := range m.expected.Handles {
		place := "rejection " + string(name)
		rejection := findMessage(method.ParentFile(), name)
		if rejection == nil && m.combined {
			rejection, _ = m.types.Message(name) // Its file has no imports.
		}
		if rejection != nil {
			m.message(rejection, place)
		} else if slices.Contains(drift.Rejections(method), name) {
			m.problem(place, "the message is neither in the file of the service nor in its imports")
		}
	}
}

// message compares the fields of a message, and the messages and enums in them. place is where the message is.
func (m *methodChecker) message(message protoreflect.MessageDescriptor, place string) {
	name := message.FullName()
	if m.compared[name] || wellKnown(name) {
		return
	}
	m.compared[name] = true
	m = m.of(name)
	expected := m.file.Messages[name]
	for _, number := range slices.Sorted(maps.Keys(expected)) {
		m.field(message, number, expected[number], place)
	}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if _, known := expected[field.Number()]; !known && field.Cardinality() == protoreflect.Required {
			m.problem(place, "field %d %s: is new and required", field.Number(), field.Name())
		}
	}
	for _, number := range slices.Sorted(maps.Keys(expected)) {
		field := message.Fields().ByNumber(number)
		if field == nil || drift.FieldOf(field).TypeText() != expected[number].TypeText() {
			continue
		}
		value := valueOf(field)
		if inner := value.Message(); inner != nil {
			m.message(inner, within(place, inner))
		} else if enum := value.Enum(); enum != nil {
			m.enum(enum, within(place, enum))
		}
	}
}

// within returns the place of a message or enum that is reached from a place.
func within(place string, inner protoreflect.Descriptor) string {
	outer, _, _ := strings.Cut(place, ", ")
	return outer + ", in " + string(inner.FullName())
}

// field compares a field.
func (m *methodChecker) field(
	message protoreflect.MessageDescriptor, number protoreflect.FieldNumber, expected drift.Field, place string,
) {
	is := fmt.Sprintf("field %d %s", number, expected.Name)
	field := message.Fields().ByNumber(number)
	if moved := m.named(message, expected.Name); moved != nil && moved.Number() != number {
		m.problem(place, "%s: its number is now %d", is, moved.Number())
		return
	}
	if field == nil {
		m.problem(place, "%s: was removed", is)
		return
	}
	found := drift.FieldOf(field)
	if !m.sameName(found.Name, expected.Name) {
		m.problem(place, "%s: was renamed to %s", is, found.Name)
	}
	if found.TypeText() != expected.TypeText() {
		m.problem(place, "%s: was %s, is %s", is, expected.TypeText(), found.TypeText())
	}
	if found.Label != expected.Label || found.Oneof != expected.Oneof {
		if was, now := expected.PresenceText(), found.PresenceText(); was != now {
			m.problem(place, "%s: was %s, is %s", is, was, now)
		}
	}
}

// named returns the field of a message with a name, or nil.
func (m *methodChecker) named(
	message protoreflect.MessageDescriptor, name protoreflect.Name,
) protoreflect.FieldDescriptor {
	for i := range message.Fields().Len() {
		if field := message.Fields().Get(i); m.sameName(field.Name(), name) {
			return field
		}
	}
	return nil
}

// sameName reports whether a field still has its name. Combined files may spell it in camel case.
func (m *methodChecker) sameName(found, expected protoreflect.Name) bool {
	plain := func(name protoreflect.Name) string { return strings.ToLower(strings.ReplaceAll(string(name), "_", "")) }
	return found == expected || m.combined && plain(found) == plain(expected)
}

// enum compares the values of an enum.
func (m *methodChecker) enum(enum protoreflect.EnumDescriptor, place string) {
	if m.compared[enum.FullName()] || wellKnown(enum.FullName()) {
		return
	}
	m.compared[enum.FullName()] = true
	m = m.of(enum.FullName())
	expected := m.file.Enums[enum.FullName()]
	numbers := make(map[protoreflect.EnumNumber]bool)
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		number := expected[name]
		numbers[number] = true
		value := enum.Values().ByName(name)
		switch other := enum.Values().ByNumber(number); {
		case value != nil && value.Number() != number:
			m.problem(place, "value %s: was %d, is %d", name, number, value.Number())
		case value == nil && other != nil:
			m.problem(place, "value %s: was renamed to %s", name, other.Name())
		case value == nil:
			m.problem(place, "value %s: was removed", name)
		}
	}
	for i := range enum.Values().Len() {
		if value := enum.Values().Get(i); !numbers[value.Number()] {
			m.note(place, "value %s is new; saga code doesn't know it", value.Name())
		}
	}
}

// joined writes names as a list.
func joined(names []protoreflect.FullName) string {
	var texts []string
	for _, name := range names {
		texts = append(texts, string(name))
	}
	return strings.Join(texts, ", ")
}
