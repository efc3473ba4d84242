package dispatch

import (
	"maps"
	"slices"

	"google.golang.org/grpc/connectivity"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/drift"
)

// Describe returns what is known of the participants, in the order of the configuration.
func (d *Dispatcher) Describe() []*treatyv1.Participant {
	all := make([]*treatyv1.Participant, 0, len(d.participants))
	for _, p := range d.participants {
		all = append(all, p.describe())
	}
	return all
}

func (p *participant) describe() *treatyv1.Participant {
	out := &treatyv1.Participant{
		Name: p.name, Target: p.target, Services: p.services,
		Reachable: p.conn.GetState() == connectivity.Ready, Build: p.described().GetBuild(),
	}
	if !out.Reachable {
		out.Problem = p.breaker.why()
	} else if !p.introduction.open.Load() {
		out.Problem = p.lastProblem()
	}
	if p.contracts == nil {
		out.Contracts = treatyv1.ContractsState_CONTRACTS_STATE_UNCHECKED
		return out
	}
	p.contracts.describe(out)
	return out
}

// describe adds what is known of the contracts.
func (k *contracts) describe(out *treatyv1.Participant) {
	k.mu.Lock()
	last, reasons := k.last, k.reasons
	k.mu.Unlock()
	out.Contracts = treatyv1.ContractsState_CONTRACTS_STATE_UNKNOWN
	for _, v := range last {
		out.Contracts = worse(out.GetContracts(), v.state())
		if out.GetContractsProblem() == "" {
			out.ContractsProblem = v.problem
		}
		for _, d := range v.differences {
			addDifference(out, d)
		}
	}
	slices.SortStableFunc(out.GetDifferences(), func(a, b *treatyv1.ContractDifference) int {
		switch {
		case a.GetBreaking() == b.GetBreaking():
			return 0
		case a.GetBreaking():
			return -1
		default:
			return 1
		}
	})
	for _, method := range slices.Sorted(maps.Keys(reasons)) {
		out.ParkedMethods = append(out.ParkedMethods, &treatyv1.ParkedMethod{Method: method, Reason: reasons[method]})
	}
}

// state returns the state of the contracts at an address.
func (v *verdict) state() treatyv1.ContractsState {
	breaking := slices.ContainsFunc(v.differences, func(d drift.Difference) bool { return d.Breaking })
	switch {
	case breaking:
		return treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED
	case v.problem != "":
		return treatyv1.ContractsState_CONTRACTS_STATE_UNVERIFIED
	default:
		return treatyv1.ContractsState_CONTRACTS_STATE_VERIFIED
	}
}

// worse returns the state of a participant with two addresses.
func worse(a, b treatyv1.ContractsState) treatyv1.ContractsState {
	order := []treatyv1.ContractsState{
		treatyv1.ContractsState_CONTRACTS_STATE_UNKNOWN, treatyv1.ContractsState_CONTRACTS_STATE_VERIFIED,
		treatyv1.ContractsState_CONTRACTS_STATE_UNVERIFIED, treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED,
	}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// addDifference adds a difference, or another method to one that is there.
func addDifference(to *treatyv1.Participant, d drift.Difference) {
	i := slices.IndexFunc(to.GetDifferences(), func(known *treatyv1.ContractDifference) bool {
		return known.GetBreaking() == d.Breaking && known.GetFile() == d.File &&
			known.GetMessage() == string(d.Message) && known.GetField() == string(d.Field) &&
			known.GetDescription() == d.Text && (d.Message != "" || known.GetMethods()[0] == d.Method)
	})
	if i < 0 {
		i = len(to.GetDifferences())
		to.Differences = append(to.Differences, &treatyv1.ContractDifference{
			Breaking: d.Breaking, File: d.File, Message: string(d.Message), Field: string(d.Field), Description: d.Text,
		})
	}
	known := to.GetDifferences()[i]
	if at, found := slices.BinarySearch(known.GetMethods(), d.Method); !found {
		known.Methods = slices.Insert(known.GetMethods(), at, d.Method)
	}
}
