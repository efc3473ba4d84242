//go:build proof

package proof

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDemo runs the README's first command.
func TestDemo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "./services/demo", "--once")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	text := string(out)
	t.Log("\n" + text)
	if err != nil {
		t.Fatalf("the demo ends with %v", err)
	}
	if n := strings.Count(text, "COMPENSATED"); n != 5 {
		t.Errorf("%d sagas were compensated, want 5", n)
	}
	if strings.Contains(text, "\x1b[") {
		t.Error("the output has colors without a terminal")
	}
	for _, want := range []string{
		"refused", "compensated", "AddressNotServed", "CreditDeclined", "kill -9", "she wasn't checked again",
		"3 of 3 open sagas can continue with this build", "5 services were asked",
		"received ApplicantVerified from the register",
		"scope 2.1.2 failed", "sleeps for 1000 ms", "round 3 starts", "had succeeded and was compensated as a whole",
		"0 violations of 9 invariants", "0 disagreements between services",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
}
