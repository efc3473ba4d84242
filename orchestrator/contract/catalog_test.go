package contract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

func load(t *testing.T, files ...protoreflect.FileDescriptor) (*contract.Catalog, error) {
	t.Helper()
	registry := new(protoregistry.Files)
	for _, file := range files {
		if err := registry.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return contract.Load(registry)
}

func mustLoad(t *testing.T, files ...protoreflect.FileDescriptor) *contract.Catalog {
	t.Helper()
	catalog, err := load(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func TestCommandsHaveTheirDefaults(t *testing.T) {
	catalog := mustLoad(t, mustCompile(t, "testdata/valid", "card"))
	type row struct {
		Kind         treatyv1.CommandKind
		Timeout      time.Duration
		Retry        contract.Retry
		Compensation string
		Fields       string
		Outcomes     map[codes.Code]treatyv1.Outcome
	}
	got := make(map[string]row)
	for command := range catalog.Commands() {
		r := row{Kind: command.Kind, Timeout: command.Timeout, Retry: command.Retry, Outcomes: command.Outcomes}
		if compensation := command.Compensation; compensation != nil {
			r.Compensation, r.Fields = compensation.Method, fmt.Sprint(compensation.ActionField, ",",
				compensation.ReplyField)
		}
		got[command.Method] = r
	}
	const service = "acme.card.v1.CardService/"
	initial, longest := contract.DefaultInitialInterval, contract.DefaultMaxInterval
	want := map[string]row{
		service + "OrderCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, Timeout: 2 * time.Second,
			Retry: contract.Retry{InitialInterval: 50 * time.Millisecond, MaxInterval: 5 * time.Second,
				GiveUpAfter: time.Minute},
			Compensation: service + "CancelCard", Fields: "7,0",
			Outcomes: map[codes.Code]treatyv1.Outcome{
				codes.Unavailable: treatyv1.Outcome_OUTCOME_REFUSED, codes.Canceled: treatyv1.Outcome_OUTCOME_CONFLICT,
			},
		},
		service + "ReorderCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, Timeout: 3 * time.Second,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: 4 * time.Second,
				GiveUpAfter: contract.DefaultGiveUpAfter},
			Compensation: service + "CancelCard", Fields: "7,0",
		},
		service + "UpdateCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, Timeout: contract.DefaultTimeout,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: longest,
				GiveUpAfter: contract.DefaultGiveUpAfter},
			Compensation: service + "RestoreCard", Fields: "2,1",
		},
		service + "ActivateCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT, Timeout: contract.DefaultTimeout,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: longest},
		},
		service + "AnnounceCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_RETRIABLE, Timeout: contract.DefaultTimeout,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: longest},
		},
		service + "GetCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_QUERY, Timeout: contract.DefaultTimeout,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: longest,
				GiveUpAfter: contract.DefaultGiveUpAfter},
		},
		"acme.card.v1.CardSagas/IssueCard": {
			Kind: treatyv1.CommandKind_COMMAND_KIND_RETRIABLE, Timeout: time.Hour,
			Retry: contract.Retry{InitialInterval: initial, MaxInterval: longest},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands differ (-want +got):\n%s", diff)
	}
	order, _ := catalog.Command(service + "OrderCard")
	rejections := []protoreflect.FullName{"acme.card.v1.NotServed", "google.protobuf.Duration"}
	if diff := cmp.Diff(rejections, order.Rejections); diff != "" {
		t.Errorf("rejections differ:\n%s", diff)
	}
}

func TestCompensationsInheritTheLongestTimesOfTheirActions(t *testing.T) {
	catalog := mustLoad(t, mustCompile(t, "testdata/valid", "card"))
	compensation, ok := catalog.Compensation("acme.card.v1.CardService/CancelCard")
	if !ok {
		t.Fatal("CancelCard isn't a compensation")
	}
	if compensation.Timeout != 3*time.Second {
		t.Errorf("timeout %s, want that of ReorderCard, 3s", compensation.Timeout)
	}
	want := contract.Retry{InitialInterval: contract.DefaultInitialInterval, MaxInterval: 5 * time.Second,
		GiveUpAfter: time.Hour}
	if compensation.Retry != want {
		t.Errorf("retry %+v, want %+v", compensation.Retry, want)
	}
	if got := contract.OutcomeOf(&compensation.CallConfig, codes.NotFound); got != treatyv1.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("NOT_FOUND is %s, want unknown", got)
	}
	for _, action := range []string{"OrderCard", "ReorderCard"} {
		command, _ := catalog.Command("acme.card.v1.CardService/" + action)
		if diff := cmp.Diff(compensation.CallConfig.Retry, command.Compensation.Retry); diff != "" ||
			command.Compensation.Timeout != compensation.Timeout {
			t.Errorf("the compensation of %s is called differently:\n%s", action, diff)
		}
	}
	restore, _ := catalog.Compensation("acme.card.v1.CardService/RestoreCard")
	if restore.Retry.GiveUpAfter != 0 {
		t.Errorf("RestoreCard gives up after %s, want never", restore.Retry.GiveUpAfter)
	}
	plan := restore.Plan()
	if plan.GetMethod() != restore.Method || plan.GetActionField() != 2 || plan.GetReplyField() != 1 {
		t.Errorf("plan %v", plan)
	}
	if (*contract.Compensation)(nil).Plan() != nil {
		t.Error("a nil compensation has a plan")
	}
}

func TestCatalogFindsMethods(t *testing.T) {
	catalog := mustLoad(t, mustCompile(t, "testdata/valid", "card"))
	saga, ok := catalog.SagaDefinition("acme.card.v1.CardSagas/IssueCard")
	if !ok {
		t.Fatal("IssueCard isn't a saga")
	}
	if saga.Deadline != 24*time.Hour || saga.RequestID.Name() != "request_id" {
		t.Errorf("saga %+v", saga)
	}
	var labels []string
	for _, label := range saga.Labels {
		labels = append(labels, string(label.Name()))
	}
	if got := strings.Join(labels, " "); got != "customer color" {
		t.Errorf("labels %s, want customer color", got)
	}
	for method, want := range map[string]bool{
		"acme.card.v1.CardService/OrderCard":  true,
		"acme.card.v1.CardService/CancelCard": true,
		"acme.card.v1.CardSagas/IssueCard":    true, // a child saga
		"acme.card.v1.CardService/ListCards":  false,
		"/acme.card.v1.CardService/OrderCard": false,
		"":                                    false,
	} {
		call, ok := catalog.CallConfig(method)
		if ok != want || ok && call.Method != method {
			t.Errorf("Call(%q) = %v, %t; want %t", method, call, ok, want)
		}
	}
	var compensations []string
	for compensation := range catalog.Compensations() {
		compensations = append(compensations, compensation.Method)
	}
	want := []string{"acme.card.v1.CardService/CancelCard", "acme.card.v1.CardService/RestoreCard"}
	if !slices.Equal(compensations, want) {
		t.Errorf("compensations %v, want %v", compensations, want)
	}
	for range catalog.SagaDefinitions() {
		break
	}
	var empty contract.Catalog
	if _, ok := empty.CallConfig("acme.card.v1.CardService/OrderCard"); ok {
		t.Error("an empty catalog has a call")
	}
}

func TestLoadFailsWithAllViolations(t *testing.T) {
	_, err := load(t, mustCompile(t, rulesDir, "outcome_invalid"), mustCompile(t, "testdata/valid", "other"))
	if err == nil {
		t.Fatal("a contract with violations is loaded")
	}
	for _, want := range []string{"load the contracts", "ALREADY_EXISTS", "ABORTED", "(OUTCOME_INVALID)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error misses %q: %v", want, err)
		}
	}
}

func TestLinkedContractsAreLoaded(t *testing.T) {
	if _, err := contract.Load(protoregistry.GlobalFiles); err != nil {
		t.Error(err)
	}
}

// Descriptors that a Go program links have no source positions, so violations have the descriptor's name.
func TestViolationsWithoutPositionsNameTheDescriptor(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(mustCompile(t, rulesDir, "command_kind_missing"))
	file.SourceCodeInfo = nil
	linked, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	_, err = load(t, linked)
	if want := "command_kind_missing.proto: acme.card.v1.CardService.OrderCard: OrderCard has no kind"; err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestOutcomes(t *testing.T) {
	want := map[treatyv1.Outcome][]codes.Code{
		treatyv1.Outcome_OUTCOME_DONE: {codes.OK},
		treatyv1.Outcome_OUTCOME_REFUSED: {
			codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
			codes.PermissionDenied,
		},
		treatyv1.Outcome_OUTCOME_CONFLICT:    {codes.Aborted},
		treatyv1.Outcome_OUTCOME_MISDEPLOYED: {codes.Unimplemented, codes.Unauthenticated},
		treatyv1.Outcome_OUTCOME_THROTTLED:   {codes.ResourceExhausted},
		treatyv1.Outcome_OUTCOME_UNKNOWN: {
			codes.Unavailable, codes.DeadlineExceeded, codes.Unknown, codes.Internal, codes.Canceled, codes.DataLoss,
			codes.Code(99),
		},
	}
	override := &contract.CallConfig{
		Outcomes: map[codes.Code]treatyv1.Outcome{codes.Unavailable: treatyv1.Outcome_OUTCOME_REFUSED},
	}
	seen := 0
	for outcome, all := range want {
		for _, code := range all {
			seen++
			if got := contract.OutcomeOf(nil, code); got != outcome {
				t.Errorf("%s is %s, want %s", code, got, outcome)
			}
			overridden := outcome
			if code == codes.Unavailable {
				overridden = treatyv1.Outcome_OUTCOME_REFUSED
			}
			if got := contract.OutcomeOf(override, code); got != overridden {
				t.Errorf("%s is %s with an override, want %s", code, got, overridden)
			}
		}
	}
	if seen != 18 {
		t.Errorf("%d codes are tested, want the 17 of gRPC and an undefined one", seen)
	}
}
