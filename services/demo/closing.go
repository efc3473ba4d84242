package main

import (
	"context"
	"fmt"
	"os"

	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// introduce shows the processes.
func (d *demo) introduce() {
	rows := [][]cell{header("PROCESS", "ADDRESS", "PID", "")}
	about := map[string]string{
		company.Orchestrator: "runs the sagas",
		company.Customer:     "Acme's customers and their addresses",
		company.Identity:     "verifies people's identity, with a slow third party",
		company.Credit:       "how much a person may owe",
		company.Card:         "credit cards and their postal addresses",
		company.Notification: "messages to customers: " + d.company.NotificationAbout,
	}
	for _, p := range d.company.Processes() {
		rows = append(rows, []cell{{p.Name, cyan}, {p.Address, plain}, {fmt.Sprint(p.PID()), dim},
			{about[p.Name], dim}})
	}
	d.out.line(plain, "")
	d.out.table("  ", rows)
}

// audit checks the journals, the ledgers and the tables of all services against Treaty's invariants.
func (d *demo) audit(ctx context.Context) error {
	facts, err := d.company.Facts(ctx)
	if err != nil {
		return fmt.Errorf("auditing: %w", err)
	}
	holdings, err := d.company.Holdings(ctx)
	if err != nil {
		return err
	}
	facts.Starts, facts.Given = d.starts.list, d.starts.given
	report := audit.Check(facts)
	disagreements := holdings.Disagreements()
	d.out.title("Audit of all journals, ledgers and databases")
	c := report.Counts
	d.out.line(plain, fmt.Sprintf("    %d sagas (%d succeeded, %d compensated), %d commands in the services' ledgers, "+
		"%d effects in their tables", c.Sagas, c.Succeeded, c.Compensated, c.Commands, c.Effects))
	d.shown++
	d.check(len(report.Violations) == 0, fmt.Sprintf("%d violations of %d invariants", len(report.Violations),
		len(audit.Invariants())))
	d.check(len(disagreements) == 0, fmt.Sprintf("%d disagreements between services", len(disagreements)))
	for _, v := range report.Violations {
		d.fail("%s", v)
	}
	for _, text := range disagreements {
		d.fail("%s", text)
	}
	return nil
}

// invite shows how to call the processes while they stay up.
func (d *demo) invite() {
	address := d.company.Process(company.Orchestrator).Address
	move := `{"request_id": "by-hand-1", "customer": "` + d.ada +
		`", "address": {"lines": ["P.O. Box 9"], "city": "Delft", "country": "NL"}}`
	d.out.title("Everything stays up until Ctrl-C. Try it from another terminal:")
	say := func(what string, lines ...string) {
		d.out.line(plain, "")
		d.out.line(dim, "  "+what)
		for _, line := range lines {
			d.out.line(plain, "  "+line)
		}
	}
	say("# the operator's command line", "export TREATY_ADDRESS="+address, "go run ./cmd/treaty sagas list",
		"go run ./cmd/treaty sagas get "+d.curies)
	say("# move Ada to a P.O. box, and see the saga compensate",
		"go run ./cmd/treaty start acme.customer.v1.CustomerSagas/ChangeAddress --wait --data '"+move+"'")
	say("# the same with grpcurl, which knows nothing about Treaty",
		"grpcurl -plaintext -d '"+move+"' "+address+" acme.customer.v1.CustomerSagas/ChangeAddress",
		"grpcurl -plaintext "+address+" list")
	verify := `{"request_id": "by-hand-2", "customer": "` + d.ada +
		`", "display_name": "Ada Lovelace", "passport_number": "` + mislaid + `"}`
	say("# a saga that waits for an event that the register doesn't publish;",
		"# see what it waits for (... of applicants/...), and publish the event yourself",
		"go run ./cmd/treaty start acme.identity.v1.IdentitySagas/VerifyApplicant --data '"+verify+"'",
		"go run ./cmd/treaty sagas list --state running",
		"go run ./cmd/treaty sagas get SAGA",
		"go run ./cmd/treaty publish acme.identity.v1.ApplicantVerified --source register "+
			`--data '{"applicant": "APPLICANT"}'`,
		"go run ./cmd/treaty events --count 10")
	say("# where does Ada live?", `grpcurl -plaintext -d '{"name": "`+d.ada+`"}' `+
		d.company.Process(company.Customer).Address+" acme.customer.v1.CustomerService/GetCustomer")
	if endpoint := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint != "" {
		say("# each saga is one trace", "traces go to "+endpoint)
	} else {
		say("# each saga is one trace: start Jaeger, then start the demo again with its address",
			"docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger",
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 go run ./services/demo", "open http://127.0.0.1:16686")
	}
	d.out.line(plain, "")
	d.out.line(dim, "  Databases and logs are in "+d.company.Dir)
}
