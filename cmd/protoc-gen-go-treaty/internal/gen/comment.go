package gen

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// doc writes a doc comment: what the .proto file says, our sentences, and the deprecation.
func (g *generator) doc(m *protogen.Method, is string, sentences []string) {
	for _, line := range slices.Concat(spoken(m, is), []string{""}, sentences) {
		g.p(strings.TrimRight("// "+line, " "))
	}
	g.deprecation(deprecated(m))
}

func (g *generator) deprecation(isDeprecated bool) {
	if isDeprecated {
		g.p("//")
		g.p("// Deprecated: Do not use.")
	}
}

// spoken turns the comment of a method into lines that begin with its name, as Go's doc comments do. Where the comment doesn't
// go on from there, what the method is comes first.
func spoken(m *protogen.Method, is string) []string {
	plain := fmt.Sprintf("%s %s %s/%s.", m.GoName, is, m.Parent.Desc.FullName(), m.Desc.Name())
	text := strings.Trim(string(m.Comments.Leading), "\n")
	if strings.TrimSpace(text) == "" {
		return []string{plain}
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(strings.TrimPrefix(line, " "), " \t")
	}
	first, rest, _ := strings.Cut(lines[0], " ")
	switch {
	case first == m.GoName:
	case isVerb(first):
		lines[0] = strings.TrimRight(m.GoName+" "+lowered(first)+" "+rest, " ")
	default:
		lines = slices.Insert(lines, 0, plain, "")
	}
	return lines
}

// isVerb tells whether a comment goes on well after a name, as in "Changes where a customer lives.".
func isVerb(word string) bool {
	switch word {
	case "This", "Its", "Is", "Always", "As", "Unless", "Address", "Status":
		return false
	}
	first, size := utf8.DecodeRuneInString(word)
	return unicode.IsUpper(first) && strings.HasSuffix(word, "s") && word[size:] == strings.ToLower(word[size:])
}

func lowered(word string) string {
	first, size := utf8.DecodeRuneInString(word)
	return string(unicode.ToLower(first)) + word[size:]
}

// commandSentences say what saga code has to know of a command.
func commandSentences(c command) []string {
	var sentences []string
	switch c.contract.Kind {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		_, undo, _ := strings.Cut(c.contract.Compensation.Method, "/")
		sentences = append(sentences, fmt.Sprintf("It is compensatable: %s undoes it.", undo))
	case treatyv1.CommandKind_COMMAND_KIND_PIVOT:
		sentences = append(sentences, "It is a pivot: once it is done, the saga can't be undone.")
	case treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		sentences = append(sentences, "It is retriable: it can't be undone, and is tried until it is done.")
	case treatyv1.CommandKind_COMMAND_KIND_QUERY:
		sentences = append(sentences, "It is a query: it changes nothing, so there is nothing to undo.")
	}
	if c.isSaga {
		sentences = append(sentences, "It is a child saga: the step is done when that saga has succeeded.")
	}
	if within := c.contract.CompleteWithin; within > 0 {
		sentences = append(sentences, fmt.Sprintf("It may be accepted first and completed later; when it isn't within %s, its outcome is unknown.", within))
	}
	if c.contract.Broadcast {
		sentences = append(sentences, "It is a broadcast: it goes to every participant that serves it, side by side.")
	}
	if len(c.contract.Rejections) > 0 {
		sentences = append(sentences, "A refusal may carry one of:")
		for _, name := range c.contract.Rejections {
			sentences = append(sentences, "  - "+string(name))
		}
	}
	return sentences
}

// sagaSentences say what an implementer has to know of a saga.
func sagaSentences(s saga) []string {
	sentence := fmt.Sprintf("It is the saga definition %s", s.contract.Definition)
	if s.contract.Deadline > 0 {
		sentence += fmt.Sprintf(", and is cancelled after %s unless it has passed its pivot", s.contract.Deadline)
	}
	sentences := []string{sentence + "."}
	if s.contract.Retention > 0 {
		sentences = append(sentences, fmt.Sprintf("It is kept for %s after its end.", s.contract.Retention))
	}
	if s.contract.Compensation != nil {
		_, undo, _ := strings.Cut(s.contract.Compensation.Method, "/")
		sentences = append(sentences, fmt.Sprintf("As a step of another saga it is undone by %s, which the orchestrator does by itself.", undo))
	}
	return sentences
}

func deprecated(m *protogen.Method) bool {
	options, ok := m.Desc.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetDeprecated() || deprecatedService(m.Parent)
}

func deprecatedService(s *protogen.Service) bool {
	options, ok := s.Desc.Options().(*descriptorpb.ServiceOptions)
	return ok && options.GetDeprecated()
}
