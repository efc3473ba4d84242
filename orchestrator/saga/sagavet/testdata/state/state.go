// Package state has sagas that use variables which other code changes.
package state

import (
	"errors"
	"flag"
	"os"
	"time"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

var (
	limit    = 10
	count    int
	seen     = map[string]bool{}
	region   = os.Getenv("REGION")
	started  = time.Now()
	prefix   string
	errLimit = errors.New("too many")
	table    = map[string]int{"a": 1}
	steps    = []func(saga.Context){first}
)

func init() { table["b"] = 2 }

func configure() {
	limit = 20
	flag.StringVar(&prefix, "prefix", "", "")
}

func first(ctx saga.Context) { saga.Sleep(ctx, time.Until(time.Unix(1, 0))) } // want `time\.Until .*\(clock\)`

func reads(_ saga.Context, customer string) error {
	if len(customer) > limit { // want `saga code reads the package variable limit, which state\.go:30 changes, so a replay may read another value.*\(shared-state\)`
		return errLimit
	}
	if customer == prefix { // want `reads the package variable prefix, which state\.go:31 changes.*\(shared-state\)`
		return errLimit
	}
	if region == "eu" { // want `reads the package variable region, which is set from os\.Getenv when the program starts.*\(shared-state\)`
		return errLimit
	}
	_ = started // want `reads the package variable started, which is set from time\.Now .*\(shared-state\)`
	_ = table["a"]
	return nil
}

func writes(ctx saga.Context, customer string) {
	count++               // want `saga code changes the package variable count, which all sagas share.*\(shared-state\)`
	seen[customer] = true // want `changes the package variable seen.*\(shared-state\)`
	for _, step := range steps {
		step(ctx)
	}
}

// Sagas implements sagas, and has state.
type Sagas struct {
	calls int
	cache map[string]*customerv1.Address
}

var _ customerv1saga.CustomerSagas = (*Sagas)(nil)

// ChangeAddress changes the value that all sagas share.
func (s *Sagas) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	s.calls++                                   // want `saga code changes s\.calls, which all sagas share.*\(shared-state\)`
	s.cache[in.GetCustomer()] = in.GetAddress() // want `saga code changes s\.cache\[in\.GetCustomer\(\)\].*\(shared-state\)`
	return s.remember(ctx, in)
}

func (s Sagas) remember(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
	s.calls = 1                       // a copy
	delete(s.cache, in.GetCustomer()) // want `saga code changes s\.cache, which all sagas share.*\(shared-state\)`
	visit := &visit{}
	visit.note(ctx)
	return &customerv1.AddressAgreed{}, nil
}

// visit is the state of one saga.
type visit struct{ notes []string }

func (v *visit) note(ctx saga.Context) { v.notes = append(v.notes, ctx.Saga()) }
