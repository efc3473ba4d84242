package contract_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// earlierContract has everything that a change could break.
const earlierContract = `syntax = "proto3";

package acme.card.v1;

import "google/protobuf/empty.proto";
import "treaty/v1/options.proto";

service CardService {
  rpc OrderCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {compensated_by: "CancelCard" rejections: ["acme.card.v1.NotServed"]};
  }
  rpc CancelCard(CancelCardRequest) returns (CardCancelled);
  rpc IssueCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {pivot: {}};
  }
  rpc SendCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {retriable: {}};
  }
  rpc ReadCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {query: {}};
  }
  rpc ForgetUser(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {retriable: {} broadcast: true};
  }
  rpc Plain(OrderCardRequest) returns (CardOrdered);
}

service CardSagas {
  rpc Provide(ProvideRequest) returns (Provided) {
    option (treaty.v1.saga) = {retention: {seconds: 3600}};
  }
  rpc Replace(ReplaceRequest) returns (Provided) {
    option (treaty.v1.saga) = {};
  }
}

message OrderCardRequest {
  string pin = 1 [debug_redact = true];
  message Owner {
    string name = 1 [debug_redact = true];
  }
}
message CardOrdered {}
message CancelCardRequest {
  OrderCardRequest action = 1;
  CardOrdered reply = 2;
}
message CardCancelled {}
message NotServed {}
message ProvideRequest {
  string request_id = 1 [(treaty.v1.request_id) = true];
  string city = 2 [(treaty.v1.label) = true];
  string other = 3;
}
message ReplaceRequest {
  string request_id = 1;
}
message Provided {}
message CardDelivered {
  option (treaty.v1.event) = {};
  string card = 1 [(treaty.v1.correlation_key) = true];
  string customer = 2;
}
`

// compileText compiles a contract as a file with a path.
func compileText(t testing.TB, path, text string) []protoreflect.FileDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
				path: text,
			})},
			protocompile.WithStandardImports(&protocompile.SourceResolver{
				ImportPaths: []string{filepath.Join("..", "..", "proto")},
			}),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return []protoreflect.FileDescriptor{files[0]}
}

// changed returns the earlier contract with some texts replaced by others.
func changed(t testing.TB, replacements []string) string {
	t.Helper()
	text := earlierContract
	for i := 0; i < len(replacements); i += 2 {
		if strings.Count(text, replacements[i]) != 1 {
			t.Fatalf("the contract has %q %d times, want once", replacements[i], strings.Count(text, replacements[i]))
		}
		text = strings.Replace(text, replacements[i], replacements[i+1], 1)
	}
	return text
}

const (
	orderCard = `  rpc OrderCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {compensated_by: "CancelCard" rejections: ["acme.card.v1.NotServed"]};
  }
`
	cancelCard = "  rpc CancelCard(CancelCardRequest) returns (CardCancelled);\n"
	replace    = `  rpc Replace(ReplaceRequest) returns (Provided) {
    option (treaty.v1.saga) = {};
  }
`
	delivered = `  option (treaty.v1.event) = {};
  string card = 1 [(treaty.v1.correlation_key) = true];
  string customer = 2;
`
)

// breakingChanges names for each case the texts that are replaced, and what is found: the line, the rule, and part of
// the message.
var breakingChanges = map[string]struct {
	replace []string
	want    []string
}{
	"a command is gone": {
		[]string{orderCard, ""},
		[]string{"8 COMMAND_NO_DELETE: acme.card.v1.CardService.OrderCard is gone"},
	},
	"a command isn't one any more": {
		[]string{"    option (treaty.v1.command) = {pivot: {}};\n", ""},
		[]string{"13 COMMAND_NO_DELETE: IssueCard is no command any more"},
	},
	"a compensation is removed with its kind": {
		[]string{`compensated_by: "CancelCard"`, "retriable: {}"},
		[]string{"10 COMMAND_SAME_KIND: OrderCard was compensatable and is retriable, but sagas rely on"},
	},
	"a retriable command becomes a pivot": {
		[]string{"{retriable: {}};", "{pivot: {}};"},
		[]string{"17 COMMAND_SAME_KIND: SendCard was retriable and is a pivot"},
	},
	"a query changes state": {
		[]string{"{query: {}}", "{retriable: {}}"},
		[]string{"20 COMMAND_SAME_KIND: ReadCard was a query and is retriable"},
	},
	"a compensation is gone": {
		[]string{cancelCard, "  rpc Undo(CancelCardRequest) returns (CardCancelled);\n", `"CancelCard"`, `"Undo"`},
		[]string{
			"8 COMPENSATION_NO_DELETE: acme.card.v1.CardService.CancelCard is gone, and journals name it",
			"10 COMMAND_SAME_COMPENSATION: OrderCard was compensated by acme.card.v1.CardService/CancelCard",
		},
	},
	"a compensation is another method": {
		[]string{cancelCard, cancelCard + "  rpc Undo(CancelCardRequest) returns (CardCancelled);\n", `"CancelCard"`,
			`"Undo"`},
		[]string{"10 COMMAND_SAME_COMPENSATION: OrderCard was compensated by acme.card.v1.CardService/CancelCard"},
	},
	"a compensation has another request": {
		[]string{"CancelCard(CancelCardRequest)", "CancelCard(UndoRequest)", "message CancelCardRequest {",
			"message UndoRequest {"},
		[]string{"12 COMMAND_SAME_TYPES: the request of CancelCard was acme.card.v1.CancelCardRequest"},
	},
	"a compensation's fields are renumbered": {
		[]string{"OrderCardRequest action = 1", "OrderCardRequest action = 3"},
		[]string{"44 COMPENSATION_SAME_FIELDS: journals write the request of OrderCard to field 1 of"},
	},
	"a compensation isn't told the reply any more": {
		[]string{"  CardOrdered reply = 2;\n", ""},
		[]string{"44 COMPENSATION_SAME_FIELDS: journals write the reply of OrderCard to field 2 of CancelCardRequest"},
	},
	"a command has another reply": {
		[]string{"ReadCard(OrderCardRequest) returns (CardOrdered)", "ReadCard(OrderCardRequest) returns (Provided)"},
		[]string{"19 COMMAND_SAME_TYPES: the reply of ReadCard was acme.card.v1.CardOrdered"},
	},
	"a command streams": {
		[]string{"ReadCard(OrderCardRequest)", "ReadCard(stream OrderCardRequest)"},
		[]string{"19 COMMAND_SAME_TYPES: ReadCard streams now"},
	},
	"a rejection is gone": {
		[]string{` rejections: ["acme.card.v1.NotServed"]`, ""},
		[]string{"10 REJECTION_NO_DELETE: OrderCard no longer has the rejection acme.card.v1.NotServed"},
	},
	"a broadcast is a command": {
		[]string{" broadcast: true", ""},
		[]string{"23 COMMAND_SAME_BROADCAST: ForgetUser isn't a broadcast any more"},
	},
	"a command is a broadcast": {
		[]string{"{retriable: {}};", "{retriable: {} broadcast: true};"},
		[]string{"17 COMMAND_SAME_BROADCAST: SendCard is a broadcast now"},
	},
	"an unknown outcome counts as refused": {
		[]string{"{pivot: {}}", `{pivot: {} outcomes: [{code: "UNAVAILABLE" outcome: OUTCOME_REFUSED}]}`},
		[]string{"14 OUTCOME_NO_WEAKEN: UNAVAILABLE of acme.card.v1.CardService/IssueCard could mean"},
	},
	"a saga is gone": {
		[]string{replace, ""},
		[]string{"28 SAGA_NO_DELETE: acme.card.v1.CardSagas.Replace is gone"},
	},
	"a saga isn't one any more": {
		[]string{"    option (treaty.v1.saga) = {};\n", ""},
		[]string{"32 SAGA_NO_DELETE: Replace is no saga any more"},
	},
	"a request id is another field": {
		[]string{"request_id = 1 [(treaty.v1.request_id) = true]", "request_id = 1", "other = 3",
			"other = 3 [(treaty.v1.request_id) = true]"},
		[]string{"51 REQUEST_ID_SAME: the request id of Provide was request_id"},
	},
	"a request id is gone": {
		[]string{"  string request_id = 1 [(treaty.v1.request_id) = true];\n", ""},
		[]string{"50 REQUEST_ID_SAME: the request id of Provide was request_id"},
	},
	"a label is gone": {
		[]string{" [(treaty.v1.label) = true]", ""},
		[]string{"52 LABEL_NO_DELETE: Provide no longer has the label city"},
	},
	"a retention is shorter": {
		[]string{"seconds: 3600", "seconds: 60"},
		[]string{"30 RETENTION_NO_SHORTEN: Provide was kept for 1h0m0s and is kept for 1m0s"},
	},
	"a retention where there was none": {
		[]string{"(treaty.v1.saga) = {}", "(treaty.v1.saga) = {retention: {seconds: 3600}}"},
		[]string{"33 RETENTION_NO_SHORTEN: Replace was kept for what the orchestrator's setting says"},
	},
	"an event is gone": {
		[]string{"message CardDelivered {\n" + delivered + "}\n", ""},
		[]string{"1 EVENT_NO_DELETE: acme.card.v1.CardDelivered is gone"},
	},
	"an event isn't one any more": {
		[]string{delivered, "  string card = 1;\n"},
		[]string{"59 EVENT_NO_DELETE: CardDelivered is no event any more"},
	},
	"an event has another key": {
		[]string{" [(treaty.v1.correlation_key) = true]", "", "string customer = 2",
			"string customer = 2 [(treaty.v1.correlation_key) = true]"},
		[]string{"62 EVENT_SAME_KEY: the correlation key of CardDelivered was card"},
	},
	"a redacted field is shown": {
		[]string{"pin = 1 [debug_redact = true]", "pin = 1"},
		[]string{"38 REDACT_NO_DELETE: pin of OrderCardRequest was debug_redact"},
	},
	"a redacted field of a nested message is shown": {
		[]string{"name = 1 [debug_redact = true]", "name = 1"},
		[]string{"40 REDACT_NO_DELETE: name of Owner was debug_redact"},
	},
}

func TestChangesThatBreak(t *testing.T) {
	before := compileText(t, "card.proto", earlierContract)
	seen := make(map[string]bool)
	for name, test := range breakingChanges {
		for _, want := range test.want {
			_, rest, _ := strings.Cut(want, " ")
			rule, _, _ := strings.Cut(rest, ":")
			seen[rule] = true
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := contract.CheckChanges(before, compileText(t, "card.proto", changed(t, test.replace)))
			if len(changes) != len(test.want) {
				t.Fatalf("found %s\nwant %s", texts(changes), strings.Join(test.want, "\n"))
			}
			for i, text := range texts(changes) {
				if !strings.HasPrefix(text, test.want[i]) {
					t.Errorf("found %s\nwant %s", text, test.want[i])
				}
				if changes[i].Before == nil || changes[i].Descriptor == nil {
					t.Errorf("%s has no descriptors", text)
				}
			}
		})
	}
	for _, rule := range contract.ChangeRules() {
		if !seen[rule.ID] {
			t.Errorf("no change breaks %s", rule.ID)
		}
	}
}

func texts(changes []contract.Change) []string {
	all := make([]string, len(changes))
	for i, c := range changes {
		all[i] = fmt.Sprintf("%d %s: %s", c.Position.Line, c.Rule, c.Message)
	}
	return all
}

func TestChangesThatBreakNothing(t *testing.T) {
	before := compileText(t, "card.proto", earlierContract)
	for name, replacements := range map[string][]string{
		"nothing":             nil,
		"a compensated pivot": {"{pivot: {}}", `{compensated_by: "CancelCard"}`},
		"a command more": {orderCard, orderCard + `  rpc BlockCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {pivot: {}};
  }
`},
		"a plain method is gone": {"  rpc Plain(OrderCardRequest) returns (CardOrdered);\n", ""},
		"a rejection more": {
			`["acme.card.v1.NotServed"]`, `["acme.card.v1.NotServed", "acme.card.v1.Provided"]`,
		},
		"times": {
			"{query: {}}", "{query: {} timeout: {seconds: 1} retry: {give_up_after: {seconds: 9}}}",
		},
		"a field of the key has another name": {"string card = 1", "string card_id = 1"},
		"a longer retention":                  {"seconds: 3600", "seconds: 7200"},
		"no retention":                        {"{retention: {seconds: 3600}}", "{}"},
		"a request id":                        {"request_id = 1;", "request_id = 1 [(treaty.v1.request_id) = true];"},
		"a label more":                        {"other = 3", "other = 3 [(treaty.v1.label) = true]"},
		"an outcome that says less": {
			"{pivot: {}}", `{pivot: {} outcomes: [{code: "ABORTED" outcome: OUTCOME_UNKNOWN}]}`,
		},
		"a redacted field more": {"string other = 3", "string other = 3 [debug_redact = true]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := compileText(t, "card.proto", changed(t, replacements))
			if changes := contract.CheckChanges(before, after); len(changes) > 0 {
				t.Errorf("found %s", texts(changes))
			}
		})
	}
}

// A contract that moved to another file is compared there. If its file is gone with it, the change has no position.
func TestChangesAcrossFiles(t *testing.T) {
	before := compileText(t, "card.proto", earlierContract)
	if changes := contract.CheckChanges(before, nil); len(changes) != 9 || changes[0].Position.Path != "" {
		t.Errorf("without any file, found %s", texts(changes))
	}
	if changes := contract.CheckChanges(before, compileText(t, "moved.proto", earlierContract)); len(changes) > 0 {
		t.Errorf("a contract that moved has changes: %s", texts(changes))
	}
}

// All kinds against all kinds: only one change is harmless.
func TestKindChanges(t *testing.T) {
	kinds := []treatyv1.CommandKind{
		treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, treatyv1.CommandKind_COMMAND_KIND_PIVOT,
		treatyv1.CommandKind_COMMAND_KIND_RETRIABLE, treatyv1.CommandKind_COMMAND_KIND_QUERY,
	}
	var harmless []string
	for _, before := range kinds {
		for _, after := range kinds {
			if before != after && !contract.KindChangeBreaks(before, after) {
				harmless = append(harmless, before.String()+" to "+after.String())
			}
		}
	}
	if want := []string{"COMMAND_KIND_PIVOT to COMMAND_KIND_COMPENSATABLE"}; !slices.Equal(harmless, want) {
		t.Errorf("harmless are %v, want %v", harmless, want)
	}
}
