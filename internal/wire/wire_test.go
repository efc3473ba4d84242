package wire_test

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

func TestParseStepName(t *testing.T) {
	tests := []struct {
		name, saga, path string
		ok               bool
	}{
		{"sagas/a/steps/1", "a", "1", true},
		{"sagas/a/steps/1.2.3", "a", "1.2.3", true},
		{wire.StepName("a-b", "4"), "a-b", "4", true},
		{"sagas/steps/steps/1", "steps", "1", true},
		{"", "", "", false},
		{"sagas/a", "", "", false},
		{"sagas/a/steps/", "", "", false},
		{"sagas//steps/1", "", "", false},
		{"sagas/a/b/steps/1", "", "", false},
		{"sagas/a/steps/1/2", "", "", false},
		{"sagas/a/steps/1/steps/2", "", "", false},
		{"saga/a/steps/1", "", "", false},
	}
	for _, test := range tests {
		saga, path, ok := wire.ParseStepName(test.name)
		if saga != test.saga || path != test.path || ok != test.ok {
			t.Errorf("ParseStepName(%q) = %q, %q, %v; want %q, %q, %v", test.name, saga, path, ok, test.saga, test.path,
				test.ok)
		}
		wantName := ""
		if test.ok {
			wantName = wire.SagaName(test.saga)
		}
		name, path, ok := wire.SplitStep(test.name)
		if name != wantName || path != test.path || ok != test.ok {
			t.Errorf("SplitStep(%q) = %q, %q, %v; want %q, %q, %v", test.name, name, path, ok, wantName, test.path,
				test.ok)
		}
		if ok && wire.JoinStep(name, path) != test.name {
			t.Errorf("JoinStep(%q, %q) = %q, want %q", name, path, wire.JoinStep(name, path), test.name)
		}
	}
}

func TestStepPath(t *testing.T) {
	for name, want := range map[string]string{"sagas/x/steps/2.1": "2.1", "2.1": "2.1", "sagas/x": "sagas/x", "": ""} {
		if got := wire.StepPath(name); got != want {
			t.Errorf("StepPath(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestParseSagaName(t *testing.T) {
	tests := []struct {
		name, id string
		ok       bool
	}{
		{"sagas/a", "a", true},
		{wire.SagaName("x1"), "x1", true},
		{"", "", false},
		{"sagas/", "", false},
		{"a", "", false},
		{"sagas/a/steps/1", "", false},
	}
	for _, test := range tests {
		if id, ok := wire.ParseSagaName(test.name); ok != test.ok || ok && id != test.id {
			t.Errorf("ParseSagaName(%q) = %q, %v; want %q, %v", test.name, id, ok, test.id, test.ok)
		}
	}
}

func TestEveryReasonIsParsed(t *testing.T) {
	for value, name := range treatyv1.ErrorReason_name {
		reason := treatyv1.ErrorReason(value)
		if got := wire.ParseReason(wire.Reason(reason)); got != reason {
			t.Errorf("ParseReason(Reason(%s)) = %s", name, got)
		}
	}
	if got := wire.ParseReason("NEVER_HEARD_OF"); got != treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		t.Errorf("ParseReason of an unknown reason = %s, want UNSPECIFIED", got)
	}
}
