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

// doc writes a doc comment: the comment in the .proto file, our sentences, and the deprecation.
func (g *generator) doc(m *protogen.Method, is string, sentences []string) {
	for _, line := range slices.Concat(docLines(m, is), []string{""}, sentences) {
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

// docLines turns the comment of a method into lines that begin with its Go name, as doc comments do. If the comment
// doesn't continue a sentence that begins with the name, a sentence of our own comes first.
func docLines(m *protogen.Method, is string) []string {
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

// isVerb reports whether the first word of a comment is a verb that can follow the name, as in "Changes a customer's
// address.".
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

// commandSentences returns what the author of saga code must know about a command.
func commandSentences(c command) []string {
	var sentences []string
	switch c.contract.Kind {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		_, compensation, _ := strings.Cut(c.contract.Compensation.Method, "/")
		sentences = append(sentences, fmt.Sprintf("It is compensatable: %s compensates it.", compensation))
	case treatyv1.CommandKind_COMMAND_KIND_PIVOT:
		sentences = append(sentences, "It is a pivot: once it is done, the saga can't be compensated.")
	case treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		sentences = append(sentences, "It is retriable: it can't be compensated, and is retried until it is done.")
	case treatyv1.CommandKind_COMMAND_KIND_QUERY:
		sentences = append(sentences, "It is a query: it changes nothing, so there is nothing to compensate.")
	}
	if c.isSaga {
		sentences = append(sentences, "It starts a child saga and is done when that saga has succeeded.")
	}
	if within := c.contract.CompleteWithin; within > 0 {
		sentences = append(sentences, fmt.Sprintf(
			"The participant may accept it and complete it within %s; after that, its outcome is unknown.", within))
	}
	if c.contract.Broadcast {
		sentences = append(sentences,
			"It is a broadcast: it goes to every participant that takes part in it, in parallel.")
	}
	if len(c.contract.Rejections) > 0 {
		sentences = append(sentences, "A refusal may carry one of these rejections:")
		for _, name := range c.contract.Rejections {
			sentences = append(sentences, "  - "+string(name))
		}
	}
	return sentences
}

// sagaSentences returns what the implementer of a saga must know.
func sagaSentences(s saga) []string {
	sentences := []string{fmt.Sprintf("It is the saga definition %s.", s.contract.Definition)}
	if s.contract.Deadline > 0 {
		sentences = append(sentences,
			fmt.Sprintf("It is cancelled after %s, unless it has passed its pivot.", s.contract.Deadline))
	}
	if s.contract.Retention > 0 {
		sentences = append(sentences, fmt.Sprintf("It is kept for %s after its end.", s.contract.Retention))
	}
	switch s.contract.Kind {
	case treatyv1.CommandKind_COMMAND_KIND_QUERY:
		sentences = append(sentences, "As a step of another saga it may only send queries.")
	case treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		sentences = append(sentences,
			"As a step of another saga it must succeed, and may only send retriable commands and queries.")
	}
	if s.contract.Compensation != nil {
		_, compensation, _ := strings.Cut(s.contract.Compensation.Method, "/")
		sentences = append(sentences, fmt.Sprintf(
			"As a step of another saga it is compensated by %s, which the orchestrator implements.", compensation))
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
