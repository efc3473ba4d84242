package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	"github.com/treatyhq/treaty/internal/testkit"
)

// failure returns a status with details.
func failure(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) error {
	t.Helper()
	out, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return out.Err()
}

// TestProblems compares all error messages with a golden file.
func TestProblems(t *testing.T) {
	list, get := []string{"sagas", "list"}, []string{"sagas", "get", "x"}
	start := []string{"start", placeOrder, "--data", `{"customer":"c-7"}`}
	bad := writeFile(t, "bad.json", "{\n  \"customer\": 7\n}\n")
	cases := []struct {
		name  string
		setup setup
		fail  error
		code  int
	}{
		{name: "not_found", setup: setup{args: []string{"sagas", "get", "nobody"}}, code: problem.ExitFailure},
		{name: "not_found_json", setup: setup{args: []string{"sagas", "get", "nobody", "--json"}},
			code: problem.ExitFailure},
		{name: "watch_not_found", setup: setup{args: []string{"sagas", "watch", "nobody"}}, code: problem.ExitFailure},
		{name: "records_not_found", setup: setup{args: []string{"sagas", "records", "nobody"}},
			code: problem.ExitFailure},
		{name: "already_exists", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.AlreadyExists, "request id r-1 was used with another request",
				&errdetails.ErrorInfo{Reason: "OTHER_REQUEST", Domain: "treaty",
					Metadata: map[string]string{"saga": "sagas/order-1"}})},
		{name: "invalid_argument", setup: setup{args: append(list, "--filter", "colour = 3")},
			code: problem.ExitFailure, fail: failure(t, codes.InvalidArgument, "the request is invalid",
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
					{Field: "filter", Description: "unknown field colour"},
					{Field: "page_size", Description: "too large"},
				}})},
		{name: "invalid_argument_json", setup: setup{args: append(list, "--json")}, code: problem.ExitFailure,
			fail: failure(t, codes.InvalidArgument, "the request is invalid",
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "filter",
					Description: "unknown field colour"}}})},
		{name: "failed_precondition", setup: setup{args: []string{"sagas", "cancel", "order-1", "--reason", "why"}},
			code: problem.ExitFailure, fail: failure(t, codes.FailedPrecondition, "sagas/order-1 is past its pivot",
				&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "STATE",
					Subject: "sagas/order-1", Description: "step 2 is a pivot and done"}}})},
		{name: "cancel_store_full", code: problem.ExitFailure,
			setup: setup{args: []string{"sagas", "cancel", "order-1", "--reason", "why"}},
			fail: failure(t, codes.Unavailable, "the orchestrator's store has no space left, so nothing was recorded",
				&errdetails.ErrorInfo{Reason: "STORE_FULL", Domain: "treaty"})},
		{name: "not_accepted", code: problem.ExitFailure,
			setup: setup{args: []string{"sagas", "complete", "x/2", "--refuse", "ABORTED", "--reason", "why"}},
			fail: failure(t, codes.FailedPrecondition,
				"the participant isn't known to have accepted shop.v1.PaymentService/Capture of step 2",
				&errdetails.ErrorInfo{Reason: "NOT_ACCEPTED", Domain: "treaty"})},
		{name: "changed", code: problem.ExitFailure,
			setup: setup{args: []string{"sagas", "cancel", "stuck-1", "--reason", "why", "--etag", "old"}},
			fail: failure(t, codes.Aborted, "the saga has changed since: it is RUNNING",
				&errdetails.ErrorInfo{Reason: "SAGA_CHANGED", Domain: "treaty"})},
		{name: "exhausted", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.ResourceExhausted, "too many starts",
				&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})},
		{name: "request_too_large", setup: setup{args: start}, code: problem.ExitFailure,
			fail: status.Error(codes.ResourceExhausted,
				"grpc: received message larger than max (5242896 vs. 4194304)")},
		{name: "request_too_large_compressed", setup: setup{args: start}, code: problem.ExitFailure,
			fail: status.Error(codes.ResourceExhausted,
				"grpc: received message after decompression larger than max 4194304")},
		{name: "reply_too_large", setup: setup{args: get}, code: problem.ExitFailure,
			fail: status.Error(codes.ResourceExhausted,
				"grpc: received message larger than max (67108865 vs. 67108864)")},
		{name: "unauthenticated", setup: setup{args: list}, code: problem.ExitFailure,
			fail: failure(t, codes.Unauthenticated, "no client certificate")},
		{name: "permission_denied", setup: setup{args: list}, code: problem.ExitFailure,
			fail: failure(t, codes.PermissionDenied, "ada may not list")},
		{name: "unimplemented", setup: setup{args: list}, code: problem.ExitFailure,
			fail: failure(t, codes.Unimplemented, "unknown service treaty.v1.SagaService")},
		{name: "internal", setup: setup{args: get}, code: problem.ExitFailure,
			fail: failure(t, codes.Internal, "the journal can't be read")},
		{name: "purged", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.DataLoss,
				"the saga of this request id ended and was purged; use a new request id for a new saga",
				&errdetails.ErrorInfo{Reason: "SAGA_PURGED", Domain: "treaty"})},
		{name: "unavailable", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "shutting down")},
		{name: "stopping", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the orchestrator is stopping; sagas continue when it runs again",
				&errdetails.ErrorInfo{Reason: "STOPPING", Domain: "treaty"})},
		{name: "store_full", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the orchestrator's store has no space left",
				&errdetails.ErrorInfo{Reason: "STORE_FULL", Domain: "treaty"})},
		{name: "replaced", setup: setup{args: []string{"sagas", "cancel", "order-3", "--reason", "why"}},
			code: problem.ExitFailure, fail: failure(t, codes.Unavailable, "another store has taken over",
				&errdetails.ErrorInfo{Reason: "STORE_REPLACED", Domain: "treaty"})},
		{name: "restoring", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the store was restored from a backup; repeat the call",
				&errdetails.ErrorInfo{Reason: "RESTORING", Domain: "treaty"})},
		{name: "catching_up", setup: setup{args: []string{"sagas", "cancel", "order-3", "--reason", "why"}},
			code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the saga hasn't caught up with its participants: step 2",
				&errdetails.ErrorInfo{Reason: "CATCHING_UP", Domain: "treaty"})},
		{name: "deadline", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.DeadlineExceeded, "late")},
		{name: "deadline_with_request_id", setup: setup{args: append(start[:4:4], "--request-id", "r-9")},
			code: problem.ExitFailure, fail: failure(t, codes.DeadlineExceeded, "late")},
		{name: "deadline_with_saga_id", setup: setup{args: append(start[:4:4], "--saga-id", "x")},
			code: problem.ExitFailure, fail: failure(t, codes.DeadlineExceeded, "late")},
		{name: "in_doubt", setup: setup{args: []string{"start", placeOrder, "--data", `{"requestId":"r-9"}`}},
			code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the store didn't say whether it was recorded; repeat the call",
				&errdetails.ErrorInfo{Reason: "IN_DOUBT", Domain: "treaty"})},
		{name: "store_full", setup: setup{args: append(start[:4:4], "--request-id", "r-9")},
			code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the orchestrator's store has no space left",
				&errdetails.ErrorInfo{Reason: "STORE_FULL", Domain: "treaty"})},
		{name: "store_read_only", setup: setup{args: start}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the orchestrator's store can't be written",
				&errdetails.ErrorInfo{Reason: "STORE_READ_ONLY", Domain: "treaty"})},
		{name: "saga_lost", setup: setup{args: append(start[:4:4], "--saga-id", "x")}, code: problem.ExitFailure,
			fail: failure(t, codes.Unavailable, "the saga was lost",
				&errdetails.ErrorInfo{Reason: "SAGA_LOST", Domain: "treaty"})},
		{name: "hostile_message", setup: setup{args: list}, code: problem.ExitFailure,
			fail: failure(t, codes.Internal, "\x1b[2J\x07 gone")},

		{name: "unknown_command", setup: setup{args: []string{"saags"}}, code: problem.ExitUsage},
		{name: "unknown_subcommand", setup: setup{args: []string{"sagas", "lsit"}}, code: problem.ExitUsage},
		{name: "command_of_a_group", setup: setup{args: []string{"list"}}, code: problem.ExitUsage},
		{name: "unknown_flag", setup: setup{args: append(list, "--colour")}, code: problem.ExitUsage},
		{name: "usage_json", setup: setup{args: append(list, "--json", "extra")}, code: problem.ExitUsage},
		{name: "name_missing", setup: setup{args: []string{"sagas", "get"}}, code: problem.ExitUsage},
		{name: "name_too_many", setup: setup{args: append(get, "y")}, code: problem.ExitUsage},
		{name: "name_empty", setup: setup{args: []string{"sagas", "get", "sagas/"}}, code: problem.ExitUsage},
		{name: "name_of_a_step", setup: setup{args: []string{"sagas", "get", "sagas/x/steps/1"}},
			code: problem.ExitUsage},
		{name: "state_unknown", setup: setup{args: append(list, "--state", "done")}, code: problem.ExitUsage},
		{name: "page_size", setup: setup{args: append(list, "--page-size", "1001")}, code: problem.ExitUsage},
		{name: "timeout_zero", setup: setup{args: append(list, "--timeout", "0s")}, code: problem.ExitUsage},
		{name: "timeout_bad", setup: setup{args: append(list, "--timeout", "soon")}, code: problem.ExitUsage},
		{name: "reason_missing", setup: setup{args: []string{"sagas", "cancel", "x"}}, code: problem.ExitUsage},
		{name: "actor_missing",
			setup: setup{args: []string{"sagas", "cancel", "x", "--reason", "why"},
				env: map[string]string{"USER": ""}}, code: problem.ExitUsage},
		{name: "lost_forget_unknown",
			setup: setup{args: []string{"sagas", "lost", "--forget", "order-1", "--reason", "why"}},
			code:  problem.ExitFailure},
		{name: "lost_forget_reason_missing", setup: setup{args: []string{"sagas", "lost", "--forget", "gone-1"}},
			code: problem.ExitUsage},
		{name: "lost_reason_without_forget", setup: setup{args: []string{"sagas", "lost", "--reason", "why"}},
			code: problem.ExitUsage},
		{name: "lost_forget_and_all",
			setup: setup{args: []string{"sagas", "lost", "--forget", "gone-1", "--reason", "why", "--all"}},
			code:  problem.ExitUsage},
		{name: "resume_two_ways",
			setup: setup{args: []string{"sagas", "resume", "x", "--reason", "why", "--retry",
				"--mark-done"}}, code: problem.ExitUsage},
		{name: "resume_name_and_filter",
			setup: setup{args: []string{"sagas", "resume", "x", "--filter", "labels:a", "--reason", "why"}},
			code:  problem.ExitUsage},
		{name: "resume_all_with_reply",
			setup: setup{args: []string{"sagas", "resume", "--filter", "labels:a", "--reason", "why",
				"--mark-done={}"}},
			code: problem.ExitUsage},
		{name: "resume_all_edited",
			setup: setup{args: []string{"sagas", "resume", "--filter", "labels:a", "--reason", "why",
				"--retry-edited", "{}"}},
			code: problem.ExitUsage},
		{name: "resume_all_reason_missing", setup: setup{args: []string{"sagas", "resume", "--filter", "labels:a"}},
			code: problem.ExitUsage},
		{name: "resume_all_list_fails",
			setup: setup{args: []string{"sagas", "resume", "--filter", "colour = 3", "--reason", "why"}},
			code:  problem.ExitFailure, fail: failure(t, codes.InvalidArgument, "filter has the unknown field")},
		{name: "resume_one_dry_run", setup: setup{args: []string{"sagas", "resume", "x", "--dry-run"}},
			code: problem.ExitUsage},
		{name: "resume_one_yes", setup: setup{args: []string{"sagas", "resume", "x", "--yes"}},
			code: problem.ExitUsage},
		{name: "cancel_name_and_filter",
			setup: setup{args: []string{"sagas", "cancel", "x", "--filter", "labels:a", "--reason", "why"}},
			code:  problem.ExitUsage},
		{name: "cancel_all_reason_missing",
			setup: setup{args: []string{"sagas", "cancel", "--filter", "labels:a", "--yes"}}, code: problem.ExitUsage},
		{name: "cancel_all_list_fails",
			setup: setup{args: []string{"sagas", "cancel", "--filter", "colour = 3", "--reason", "why", "--yes"}},
			code:  problem.ExitFailure, fail: failure(t, codes.InvalidArgument, "filter has the unknown field")},
		{name: "cancel_one_dry_run",
			setup: setup{args: []string{"sagas", "cancel", "x", "--reason", "why", "--dry-run"}},
			code:  problem.ExitUsage},
		{name: "resume_edited_unfit",
			setup: setup{args: []string{"sagas", "resume", "stuck-2", "--reason", "why", "--retry-edited",
				"{}"}}, code: problem.ExitFailure},
		{name: "resume_done_unfit",
			setup: setup{args: []string{"sagas", "resume", "order-1", "--reason", "why",
				"--mark-done={}"}}, code: problem.ExitFailure},
		{name: "resume_bad_data",
			setup: setup{args: []string{"sagas", "resume", "stuck-1", "--reason", "why", "--retry-edited",
				`{"action": {"cents": "x"}}`}}, code: problem.ExitUsage},
		{name: "resume_edited_redacted",
			setup: setup{args: []string{"sagas", "resume", "stuck-1", "--reason", "why", "--retry-edited",
				`{"action": {"card": {"holder": "Ada", "number": "[redacted]"}, "cents": "1250"}}`}},
			code: problem.ExitUsage},
		{name: "resume_done_redacted",
			setup: setup{args: []string{"sagas", "resume", "stuck-3", "--reason", "why",
				`--mark-done={"receipt": "[redacted]"}`}}, code: problem.ExitUsage},
		{name: "start_redacted",
			setup: setup{args: []string{"start", placeOrder, "--data",
				`{"items": [{"sku": "tea"}, {"giftNote": "[redacted]"}]}`}}, code: problem.ExitUsage},

		{name: "method_wrong", setup: setup{args: []string{"start", "shop.v1.OrderSagas/PlaceOder"}},
			code: problem.ExitUsage},
		{name: "method_of_no_service", setup: setup{args: []string{"start", "PlaceOrder"}}, code: problem.ExitUsage},
		{name: "method_of_no_saga", setup: setup{args: []string{"start", reserve}}, code: problem.ExitUsage},
		{name: "data_unknown_field", setup: setup{args: []string{"start", placeOrder, "--data", `{"custmer": "c-7"}`}},
			code: problem.ExitUsage},
		{name: "data_syntax", setup: setup{args: []string{"start", placeOrder, "--data", "{\n  customer: 1}"}},
			code: problem.ExitUsage},
		{name: "data_cut_off", setup: setup{args: []string{"start", placeOrder, "--data", `{"customer": "c-7"`}},
			code: problem.ExitUsage},
		{name: "data_unknown_any",
			setup: setup{args: []string{"start", placeOrder, "--data",
				`{"extra": {"@type": "type.googleapis.com/no.Such"}}`}}, code: problem.ExitUsage},
		{name: "data_no_fields",
			setup: setup{args: []string{"start", "shop.v1.OrderSagas/CloseShop", "--data",
				`{"x": 1}`}}, code: problem.ExitUsage},
		{name: "data_wrong_type_in_file", setup: setup{args: []string{"start", placeOrder, "--data", "@" + bad}},
			code: problem.ExitUsage},
		{name: "data_on_stdin", setup: setup{args: []string{"start", placeOrder, "--data", "-"}, stdin: "[]"},
			code: problem.ExitUsage},
		{name: "data_no_file", setup: setup{args: []string{"start", placeOrder, "--data", "@/no/such/file"}},
			code: problem.ExitUsage},
		{name: "request_ids_differ",
			setup: setup{args: []string{"start", placeOrder, "--data", `{"requestId":"a"}`, "--request-id",
				"b"}}, code: problem.ExitUsage},

		{name: "address_bad", setup: setup{args: append(list, "--address", "here")}, code: problem.ExitUsage},
		{name: "address_url", setup: setup{args: append(list, "--address", "https://here:1")}, code: problem.ExitUsage},
		{name: "plaintext_refused", setup: setup{args: append(list, "--address", "192.0.2.1:7080")},
			code: problem.ExitUsage},
		{name: "insecure_and_tls", setup: setup{args: append(list, "--insecure", "--tls")}, code: problem.ExitUsage},
		{name: "tls_ca_missing", setup: setup{args: append(list, "--tls-ca", "/no/such/file")},
			code: problem.ExitUsage},
		{name: "tls_ca_empty", setup: setup{args: append(list, "--tls-ca", bad)}, code: problem.ExitUsage},
		{name: "tls_key_missing", setup: setup{args: append(list, "--tls-cert", bad)}, code: problem.ExitUsage},
		{name: "tls_cert_bad", setup: setup{args: append(list, "--tls-cert", bad, "--tls-key", bad)},
			code: problem.ExitUsage},
		{name: "tls_to_plaintext", setup: setup{args: append(list, "--tls")}, code: problem.ExitFailure},
	}
	var whole strings.Builder
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			full(t, f)
			f.Fail = c.fail
			c.setup.address = f.Address
			got := run(t, c.setup)
			if got.code != c.code {
				t.Errorf("exit %d, want %d", got.code, c.code)
			}
			if got.stdout != "" {
				t.Errorf("a failure wrote to stdout: %s", got.stdout)
			}
			if strings.Contains(got.stderr, "goroutine") || strings.ContainsAny(got.stderr, "\x1b\x07") {
				t.Errorf("stderr: %q", got.stderr)
			}
			if strings.HasSuffix(c.name, "_json") {
				validJSONLines(t, strings.NewReader(got.stderr))
			}
			fmt.Fprintf(&whole, "=== %s (exit %d)\n%s", c.name, got.code,
				strings.ReplaceAll(got.stderr, bad, "bad.json"))
		})
	}
	golden(t, "problems", setup{}, session{stdout: whole.String()})
}

// TestUnreachable checks the message for an address on which nothing listens.
func TestUnreachable(t *testing.T) {
	address := testkit.UnusedAddress(t)
	for _, args := range [][]string{{"sagas", "list"}, {"sagas", "watch", "x"}, {"definitions"},
		{"start", placeOrder}} {
		got := run(t, setup{args: args, address: address})
		if got.code != problem.ExitFailure || !strings.Contains(got.stderr, "can't reach an orchestrator at ADDRESS") ||
			!strings.Contains(got.stderr, "connection refused") || !strings.Contains(got.stderr, "--address") {
			t.Errorf("%v: exit %d, %s", args, got.code, got.stderr)
		}
	}
}
