package company

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Copy is the name of a second orchestrator, which runs on a copy of the store. See Company.AddCopy.
const Copy = "copy"

// AddCopy adds a second orchestrator with the same participants, on a copy of the store. It isn't started: call Start
// of its process. It isn't among Processes.
func (c *Company) AddCopy(store string) (*Process, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	first := c.processes[Orchestrator]
	args := slices.Clone(first.args)
	for i, arg := range args {
		switch arg {
		case c.Store():
			args[i] = store
		case first.Address:
			args[i] = addresses[0]
		}
	}
	p := &Process{
		Name: Copy, Address: addresses[0], Log: c.file(Copy + ".log"), args: args, env: first.env,
		died: make(chan error, 1),
	}
	conn, err := grpc.NewClient("passthrough:///"+p.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c.processes[Copy], c.conns[Copy] = p, conn
	return p, nil
}

// RestoreCopy makes a copied backup one that can be served.
func (c *Company) RestoreCopy(ctx context.Context, store string) error {
	return c.orchestrator(ctx, store, "restore")
}
