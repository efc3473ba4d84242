package machine_test

import (
	"fmt"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// BenchmarkScopes starts a saga with many scopes in parallel, each with a deadline, and stops them. The cost of a
// scope should not depend on their number.
func BenchmarkScopes(b *testing.B) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, scopes := range []int{100, 1000} {
		b.Run(fmt.Sprint(scopes), func(b *testing.B) {
			for b.Loop() {
				m := machine.New(machine.Config{
					ID: "x",
					Code: func(thread *machine.Thread, _ []byte) ([]byte, *treatyv1.Failure) {
						call := func(_ int, thread *machine.Thread) *treatyv1.Failure {
							return thread.Call(&machine.Call{Method: "A"}).Failure
						}
						scope := func(_ int, thread *machine.Thread) *treatyv1.Failure {
							thread.Branch(&machine.Branches{Count: 1, Compensate: true, Within: time.Hour, Body: call})
							return nil
						}
						thread.Branch(&machine.Branches{Count: scopes, Body: scope})
						return []byte{}, nil
					},
					Command: func(method string) (*contract.Command, bool) {
						return &contract.Command{
							CallConfig:   contract.CallConfig{Method: method},
							Kind:         treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
							Compensation: &contract.Compensation{CallConfig: contract.CallConfig{Method: "Undo"}},
						}, true
					},
				})
				start := machine.Start{Started: &treatyv1.SagaStarted{Definition: "Test/Saga"}}
				for at, in := range []machine.Input{start, machine.Wake{}} {
					if _, err := m.Apply(now.Add(time.Duration(at)*time.Hour), in); err != nil {
						b.Fatal(err)
					}
				}
				m.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*scopes), "µs/scope")
		})
	}
}
