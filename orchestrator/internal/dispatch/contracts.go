package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/reflection"
)

const (
	// contractsTimeout limits the questions about the contracts of one address. Commands wait for the first answer of a
	// participant for no longer.
	contractsTimeout = 5 * time.Second

	// initialContractsDelay and maxContractsDelay bound the wait before an address is asked again that hasn't answered.
	// The wait doubles with each failure.
	initialContractsDelay = 5 * time.Second
	maxContractsDelay     = 5 * time.Minute

	// driftedInterval is how often an address is asked again whose contracts have drifted. Behind a balancer, another
	// process may answer on the same connection.
	driftedInterval = 30 * time.Second

	// maxVerdicts is how many different contracts of one participant are remembered.
	maxVerdicts = 16
)

// ContractCheck says what is done about the contracts of a participant.
type ContractCheck int

const (
	// ContractsChecked compares them. Commands whose contract has drifted wait. If they can't be compared, commands are
	// sent all the same. It is the default.
	ContractsChecked ContractCheck = iota

	// ContractsStrict is ContractsChecked, but commands also wait if the contracts can't be compared.
	ContractsStrict

	// ContractsUnchecked doesn't compare them.
	ContractsUnchecked
)

// Expected is a command that sagas may send.
type Expected struct {
	// Method is its method, as the orchestrator knows it.
	Method protoreflect.MethodDescriptor

	// Compensation is the method that compensates it, or nil.
	Compensation protoreflect.MethodDescriptor
}

// contracts compares the contracts of one participant with those that the orchestrator expects. Each address is asked
// by server reflection, on its own connection. A command goes only to addresses whose contract agrees with the
// orchestrator's; if there are none, it waits. All methods may be called concurrently.
type contracts struct {
	name, target string
	strict       bool
	expected     []Expected
	logger       *slog.Logger
	driftedAfter time.Duration // see driftedInterval

	// park parks the methods that have a reason, and resumes all others. It is called with applying held.
	park func(reasons map[string]string)

	// open is set once an address was asked.
	open atomic.Bool

	// applying orders changes. It is taken before mu.
	applying sync.Mutex

	// mu guards what follows.
	mu      sync.Mutex
	waiting waitlist

	// known are the verdicts about contracts, by the digests that the participant states, and by those that were
	// computed here.
	known map[string]*verdict

	// addresses are the verdicts about working connections, by what ends with each connection.
	addresses map[context.Context]*verdict

	// last are the verdicts when there was a connection.
	last []*verdict

	// reasons are the methods that are parked, with why.
	reasons map[string]string
}

// verdict is what is known of the contracts of an address. It is immutable.
type verdict struct {
	// digest is the digest of the contracts, or empty if they couldn't be compared.
	digest string

	// problem is why they couldn't be compared, or empty; final says that asking again is of no use.
	problem string
	final   bool

	// differences are all differences, by method.
	differences []drift.Difference

	// blocked are the methods that must not be called, with why.
	blocked map[string]string
}

func newContracts(p Participant, all []Expected, logger *slog.Logger) *contracts {
	if p.Contracts == ContractsUnchecked {
		return nil
	}
	k := &contracts{
		name: p.Services[0], target: p.Target, strict: p.Contracts == ContractsStrict, logger: logger,
		driftedAfter: driftedInterval, known: make(map[string]*verdict), addresses: make(map[context.Context]*verdict),
	}
	for _, e := range all {
		service := string(e.Method.Parent().FullName())
		if slices.Contains(p.Services, service) || slices.Contains(p.Broadcasts, service) {
			k.expected = append(k.expected, e)
		}
	}
	if len(k.expected) == 0 {
		return nil
	}
	return k
}

// wait returns false when commands may be sent. Otherwise it returns true, and wake is called when they may.
func (k *contracts) wait(wake func()) bool {
	if k == nil || k.open.Load() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open.Load() {
		return false
	}
	k.waiting.add(wake)
	return true
}

// lookup returns the verdict about contracts with a digest, or nil.
func (k *contracts) lookup(digest string) *verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[digest]
}

// remember remembers the verdict about contracts with a digest.
func (k *contracts) remember(digest string, v *verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxVerdicts {
		clear(k.known)
	}
	k.known[digest] = v
}

// ask asks an address for its contracts and compares them.
func (k *contracts) ask(ctx context.Context, conn grpc.ClientConnInterface) *verdict {
	ctx, cancel := context.WithTimeout(ctx, contractsTimeout)
	defer cancel()
	client := reflection.New(ctx, conn, contractsTimeout)
	defer client.Close()
	var files []protoreflect.FileDescriptor
	for _, name := range k.services() {
		service, err := client.Service(name)
		if status.Code(err) == codes.NotFound {
			served, listErr := client.Services()
			switch {
			case listErr != nil:
				err = listErr
			case !slices.Contains(served, name):
				continue // so all of its methods are missing
			}
		}
		if err != nil {
			return k.unverified(err)
		}
		files = append(files, service.ParentFile())
	}
	digest := drift.Digest(files...)
	if v := k.lookup(digest); v != nil && digest != "" {
		return v
	}
	v := k.compare(client.Files())
	v.digest = cmp.Or(digest, "none")
	k.remember(v.digest, v)
	return v
}

// services returns the services of the expected methods, sorted.
func (k *contracts) services() []protoreflect.FullName {
	var names []protoreflect.FullName
	for _, e := range k.expected {
		names = append(names, e.Method.Parent().FullName())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unverified returns the verdict about an address whose contracts can't be compared.
func (k *contracts) unverified(err error) *verdict {
	v := &verdict{}
	switch code := status.Code(err); code {
	case codes.Unimplemented:
		v.problem, v.final = "it has no server reflection", true
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		v.problem = "its server reflection doesn't answer: " + truncate(err.Error())
	default:
		v.problem, v.final = "its server reflection can't be used: "+truncate(err.Error()), true
	}
	if !v.final {
		// What was known before still holds, as far as anybody can tell.
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, before := range k.last {
			if before.digest != "" && len(before.blocked) > 0 {
				return &verdict{problem: v.problem, differences: before.differences, blocked: before.blocked}
			}
		}
	}
	if k.strict {
		v.blocked = make(map[string]string)
		for _, e := range k.expected {
			for _, method := range e.methods() {
				v.blocked[drift.MethodName(method)] = "its contract can't be checked, and the orchestrator requires " +
					"that (--contracts " + k.name + "=strict): " + v.problem
			}
		}
	}
	return v
}

// methods returns the command's method and that of its compensation.
func (e Expected) methods() []protoreflect.MethodDescriptor {
	if e.Compensation == nil {
		return []protoreflect.MethodDescriptor{e.Method}
	}
	return []protoreflect.MethodDescriptor{e.Method, e.Compensation}
}

// compare compares contracts with what is expected. An action isn't sent either if its compensation has drifted, since
// it couldn't be undone. A compensation is sent as long as its own contract agrees.
func (k *contracts) compare(theirs drift.Finder) *verdict {
	v := &verdict{blocked: make(map[string]string)}
	own := make(map[string]string) // why a method can't be called for its own contract
	for _, e := range k.expected {
		for _, method := range e.methods() {
			name := drift.MethodName(method)
			if _, compared := own[name]; compared {
				continue
			}
			found := drift.Compare(method, theirs)
			v.differences = append(v.differences, found...)
			own[name] = reasonFor(found)
			if own[name] != "" {
				v.blocked[name] = own[name]
			}
		}
		name := drift.MethodName(e.Method)
		if e.Compensation != nil && own[name] == "" {
			if compensation := drift.MethodName(e.Compensation); own[compensation] != "" {
				v.blocked[name] = "it couldn't be compensated by " + compensation + ": " + own[compensation]
			}
		}
	}
	return v
}

// reasonFor returns why a method with differences can't be called, or "".
func reasonFor(differences []drift.Difference) string {
	breaking := slices.DeleteFunc(slices.Clone(differences), func(d drift.Difference) bool { return !d.Breaking })
	switch len(breaking) {
	case 0:
		return ""
	case 1:
		return breaking[0].String()
	default:
		return fmt.Sprintf("%s; and %d more (treaty doctor)", breaking[0], len(breaking)-1)
	}
}

// settle takes note of the verdict about a connection, which ends with ctx.
func (k *contracts) settle(ctx context.Context, v *verdict) {
	k.update(func() {
		if ctx.Err() == nil {
			k.addresses[ctx] = v
		}
	})
}

// forget takes note of the end of a connection.
func (k *contracts) forget(ctx context.Context) { k.update(func() { delete(k.addresses, ctx) }) }

// update changes the verdicts, and parks and resumes methods accordingly. While there is no connection, what was parked
// stays so.
func (k *contracts) update(change func()) {
	k.applying.Lock()
	defer k.applying.Unlock()
	k.mu.Lock()
	change()
	if len(k.addresses) == 0 {
		k.mu.Unlock()
		return
	}
	before, parked := k.last, k.reasons
	k.last = verdictsOf(k.addresses)
	k.reasons = blockedByAll(k.last)
	last, reasons := k.last, k.reasons
	k.open.Store(true)
	woken := k.waiting.take(k.waiting.len)
	k.mu.Unlock()
	k.park(reasons)
	woken.wakeAll()
	k.report(before, last)
	k.reportParked(parked, reasons)
}

// adopt parks a method that is called for the first time, if it has a reason.
func (k *contracts) adopt(park func(reason string), method string) {
	if k == nil {
		return
	}
	k.applying.Lock()
	defer k.applying.Unlock()
	k.mu.Lock()
	reason := k.reasons[method]
	k.mu.Unlock()
	park(reason)
}

// verdictsOf returns the different verdicts, in an order that depends on them alone.
func verdictsOf(addresses map[context.Context]*verdict) []*verdict {
	var all []*verdict
	for _, v := range addresses {
		if !slices.ContainsFunc(all, v.same) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *verdict) int {
		return cmp.Or(cmp.Compare(a.digest, b.digest), cmp.Compare(a.problem, b.problem))
	})
	return all
}

// same returns whether two verdicts say the same.
func (v *verdict) same(other *verdict) bool {
	return v == other || v.digest == other.digest && v.problem == other.problem
}

// blockedByAll returns the methods that no address may be called for.
func blockedByAll(verdicts []*verdict) map[string]string {
	reasons := make(map[string]string)
	for method, reason := range verdicts[0].blocked {
		if !slices.ContainsFunc(verdicts, func(v *verdict) bool { return v.blocked[method] == "" }) {
			reasons[method] = reason
		}
	}
	return reasons
}

// report logs each verdict that is new.
func (k *contracts) report(before, now []*verdict) {
	about := []any{"participant", k.name, "target", k.target}
	for _, v := range now {
		if slices.ContainsFunc(before, v.same) {
			continue
		}
		breaking, harmless := described(v.differences)
		switch {
		case v.problem != "":
			k.logger.Warn("the contracts of a participant can't be compared with the orchestrator's: serve server "+
				"reflection there, or don't check them (--contracts "+k.name+"=unchecked)",
				append(about, "cause", v.problem)...)
		case len(breaking) > 0:
			k.logger.Error("the contracts of a participant have drifted from the orchestrator's: commands aren't sent "+
				"where one side could act on something else than the other one sent; deploy both with the same "+
				"contracts",
				append(about, "breaking", breaking, "harmless", harmless, "digest", v.digest)...)
		case len(harmless) > 0:
			k.logger.Info("the contracts of a participant differ from the orchestrator's, and break nothing",
				append(about, "harmless", harmless, "digest", v.digest)...)
		default:
			k.logger.Debug("the contracts of a participant are the orchestrator's",
				append(about, "digest", v.digest)...)
		}
	}
}

// described returns the differences in words, each once.
func described(differences []drift.Difference) (breaking, harmless []string) {
	for _, d := range differences {
		to := &harmless
		if d.Breaking {
			to = &breaking
		}
		if text := d.String(); !slices.Contains(*to, text) {
			*to = append(*to, text)
		}
	}
	return breaking, harmless
}

// reportParked logs that other methods are parked than before.
func (k *contracts) reportParked(before, now map[string]string) {
	about := []any{"participant", k.name, "target", k.target}
	added, ended := missingIn(before, now), missingIn(now, before)
	if len(added) > 0 {
		k.logger.Error("commands wait, since every address of their participant has another contract, or none that "+
			"can be checked", append(about, "methods", added, "cause", now[added[0]])...)
	}
	if len(ended) > 0 {
		k.logger.Info("commands that waited for their participant's contract go on", append(about, "methods", ended)...)
	}
}

// missingIn returns the keys that one map has in addition to another one, sorted.
func missingIn(in, of map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(of)), func(key string) bool { return in[key] != "" })
}

// parkedMethods returns how many methods are parked.
func (k *contracts) parkedMethods() int {
	if k == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.reasons)
}

// blocks returns whether a method must not be called at an address that has a verdict.
func (v *verdict) blocks(method string) bool {
	return len(v.blocked) > 0 && v.blocked[strings.TrimPrefix(method, "/")] != ""
}
