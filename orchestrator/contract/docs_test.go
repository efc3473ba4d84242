package contract_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

const referencePath = "../../docs/contract-reference.md"

// The page has a section for each rule, with an example that breaks it and the message for it.
func TestReferenceHoldsTheRules(t *testing.T) {
	page, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(page), "## Rules\n")
	if !found {
		t.Fatalf("%s has no section Rules", referencePath)
	}
	golden(t, referencePath, before+"## Rules\n"+documented(t))

	var headings, rules []string
	for _, match := range regexp.MustCompile(`(?m)^### ([A-Z_]+)$`).FindAllStringSubmatch(string(page), -1) {
		headings = append(headings, match[1])
	}
	for _, rule := range contract.Rules() {
		rules = append(rules, rule.ID)
	}
	if !*update && !slices.Equal(headings, rules) {
		t.Errorf("%s has the rules %v, want %v", referencePath, headings, rules)
	}
}

func documented(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("\nEach rule has an example that breaks it, without its first six lines (syntax, package and " +
		"import), and the\n" +
		"message that is printed for it.\n")
	for _, rule := range contract.Rules() {
		name := strings.ToLower(rule.ID)
		example, err := os.ReadFile(filepath.Join(rulesDir, name+".proto"))
		if err != nil {
			t.Fatal(err)
		}
		// All examples have the same head.
		_, body, found := strings.Cut(string(example), "import \"treaty/v1/options.proto\";\n\n")
		if !found || strings.Count(strings.TrimSuffix(string(example), body), "\n") != 6 {
			t.Fatalf("%s.proto doesn't begin with syntax, package and import, six lines together", name)
		}
		message := printed(contract.Check(mustCompile(t, rulesDir, name)))
		fmt.Fprintf(&out, "\n### %s\n\n%s\n\n%s\n\n", rule.ID, wrapped(rule.Summary), wrapped(rule.Doc))
		fmt.Fprintf(&out, "```proto\n%s\n```\n\n```text\n%s```\n", strings.TrimSpace(body), message)
	}
	return out.String()
}

// The page has a row for each rule about changes.
func TestReferenceHoldsTheRulesAboutChanges(t *testing.T) {
	page, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), changesHead)
	if !found {
		t.Fatalf("%s has no table with the head %q", referencePath, changesHead)
	}
	var rows strings.Builder
	for _, rule := range contract.ChangeRules() {
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", rule.ID, rule.Summary, rule.Doc)
	}
	table, after, _ := strings.Cut(rest, "\n\n")
	if *update {
		before, _, _ := strings.Cut(string(page), changesHead)
		golden(t, referencePath, before+changesHead+rows.String()+"\n"+after)
	} else if table+"\n" != rows.String() {
		t.Errorf("%s has the rules\n%s\nwant\n%s", referencePath, table, rows.String())
	}
}

const changesHead = "| rule | what it says | why |\n|---|---|---|\n"

// wrapped breaks a paragraph into lines of at most 120 characters.
func wrapped(text string) string {
	const longest = 120
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > longest:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// The page mentions every option and every field of an option.
func TestReferenceHoldsTheOptions(t *testing.T) {
	page, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	want := func(text string) {
		if !strings.Contains(string(page), "`"+text+"`") {
			t.Errorf("%s doesn't mention `%s`", referencePath, text)
		}
	}
	file := treatyv1.File_treaty_v1_options_proto
	for i := range file.Extensions().Len() {
		want("(" + string(file.Extensions().Get(i).FullName()) + ")")
	}
	for i := range file.Messages().Len() {
		fields := file.Messages().Get(i).Fields()
		for j := range fields.Len() {
			want(string(fields.Get(j).Name()))
		}
	}
	outcomes := treatyv1.Outcome(0).Descriptor().Values()
	for i := range outcomes.Len() {
		switch number := outcomes.Get(i).Number(); number {
		case protoreflect.EnumNumber(treatyv1.Outcome_OUTCOME_UNSPECIFIED),
			protoreflect.EnumNumber(treatyv1.Outcome_OUTCOME_DONE):
		default:
			want(string(outcomes.Get(i).Name()))
		}
	}
}

func ExampleCheck() {
	violations := contract.Check(treatyv1.File_treaty_v1_saga_service_proto)
	fmt.Println(len(violations))
	// Output: 0
}

func ExampleCompensationRequest() {
	plan := &treatyv1.CompensationPlan{Method: "acme.customer.v1.CustomerService/RestoreAddress", ActionField: 1,
		ReplyField: 2}
	fmt.Printf("%q\n", contract.CompensationRequest(plan, []byte("asked"), []byte("done")))
	fmt.Printf("%q\n", contract.CompensationRequest(plan, []byte("asked"), nil)) // the reply is unknown
	// Output:
	// "\n\x05asked\x12\x04done"
	// "\n\x05asked"
}
