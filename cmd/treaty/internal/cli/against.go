package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/contracts"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
)

// againstParams are the flags of conform --against.
type againstParams struct {
	file        string
	services    []string
	descriptors string
}

// args accepts FILE, or none with --against.
func (p *againstParams) args(cmd *cobra.Command, args []string) error {
	switch {
	case p.file == "" && len(p.services) > 0:
		return problem.Usage("--service needs --against")
	case p.file == "":
		return exact("FILE")(cmd, args)
	case len(args) > 0:
		return problem.Usage("--against compares contracts and sends no command, so it takes no FILE",
			"Run treaty conform twice, with and without --against.")
	default:
		return nil
	}
}

// against compares a participant with what sagas expect. The exit code is 0 if it meets that, 1 if it doesn't, and 2 if
// nothing could be compared.
func (a *app) against(ctx context.Context, cmd *cobra.Command, params againstParams) error {
	if !cmd.Flags().Changed("address") {
		return problem.Usage("the participant's address is missing", "Set --address HOST:PORT.")
	}
	text, err := os.ReadFile(params.file)
	if err != nil {
		return problem.Usage("reading --against: "+err.Error(), "Write that file with treaty contracts export.")
	}
	file, err := contracts.Parse(text)
	if err != nil {
		return problem.Usage("reading --against " + params.file + ": " + err.Error())
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	if err := a.loadDescriptors(params.descriptors); err != nil {
		return err
	}
	var services []protoreflect.FullName
	for _, name := range params.services {
		services = append(services, protoreflect.FullName(name))
	}
	report, err := contracts.Check(a.client.Schema, file, services)
	if err != nil {
		return a.uncompared(ctx, err)
	}
	if a.flags.json {
		writeJSON(a.Stdout, report)
	} else {
		a.print(report.Text())
	}
	if !report.Holds() {
		return exitError(problem.ExitFailure)
	}
	return nil
}

// uncompared explains why nothing could be compared.
func (a *app) uncompared(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p := &problem.Error{Exit: problem.ExitUsage, Message: err.Error()}
	failure, ok := status.FromError(innermost(err))
	if !ok {
		return p
	}
	address := a.flags.connection.Address
	p.Code = failure.Code()
	p.Message = "asking " + address + " for its contracts: " + failure.Message()
	switch failure.Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		p.Hints = []string{"Check that a participant listens at " + address + ", with or without TLS as the flags say."}
	case codes.Unimplemented:
		p.Message = address + " has no server reflection, neither grpc.reflection.v1 nor v1alpha"
		p.Hints = []string{"Serve server reflection, or add --descriptors FILE after buf build -o FILE."}
	case codes.Unauthenticated, codes.PermissionDenied:
		p.Hints = []string{"Set --tls-cert and --tls-key to a certificate that it believes."}
	}
	return p
}

// innermost returns the error that no other one wraps.
func innermost(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
