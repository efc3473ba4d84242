package shards_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	clusterdb "github.com/treatyhq/treaty/orchestrator/internal/cluster/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/internal/shards"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const definition = "bench.v1.WorkSagas/Run"

// registrar collects definitions.
type registrar map[string]machine.Code

func (r registrar) RegisterSaga(d saga.Definition) { r[d.Name] = sagacode.Of(d) }

// run sends a command, awaits the event whose subject its request has, and sends another command.
func run(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
	work := func(step int32) error {
		return saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, &benchv1.WorkRequest{
			Step: step, Payload: in.GetPayload(),
		}, new(benchv1.WorkDone))
	}
	if err := work(1); err != nil {
		return nil, err
	}
	if _, err := identityv1saga.AwaitApplicantVerified(ctx, string(in.GetPayload())); err != nil {
		return nil, err
	}
	return &benchv1.RunDone{}, work(2)
}

// participant is what all instances call. It keeps the highest epoch of each scope, as an inbox does.
type participant struct {
	mu     sync.Mutex
	epochs map[string]uint64
	done   map[string]int // how often each command was executed
	stale  int            // commands under an epoch that was replaced
}

func (p *participant) Attempt(_ context.Context, a *engine.Attempt) engine.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.Epoch < p.epochs[a.Scope] {
		p.stale++
		return engine.Answer{
			Outcome: treatyv1.Outcome_OUTCOME_CONFLICT, Evidence: engine.AttemptNotRun, Halt: engine.HaltReplaced,
			Failure: &treatyv1.Failure{Message: "a later epoch is known"},
		}
	}
	p.epochs[a.Scope] = a.Epoch
	if id := a.Saga + "/steps/" + a.Step; p.done[id] == 0 { // else the inbox answers
		p.done[id]++
	}
	reply, err := proto.Marshal(new(benchv1.WorkDone))
	if err != nil {
		panic(err)
	}
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Evidence: engine.Settled, Reply: reply}
}

func (*participant) Delay(*contract.CallConfig, int, engine.Answer) time.Duration {
	return 10 * time.Millisecond
}

func (*participant) Admit(
	engine.Destination, *contract.CallConfig, admission.Claim, func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	return nil, nil
}

func (*participant) FirstWaitsSince(string) (time.Time, bool) { return time.Time{}, false }

func (*participant) CloseCommand(context.Context, *engine.Attempt) engine.Closed {
	return engine.Closed{Verdict: engine.NotKept}
}

func (*participant) LookUp(context.Context, *engine.Attempt) engine.Known {
	return engine.Known{Verdict: engine.NotKept}
}

func (*participant) TakingPart(string) []string { return nil }

// world is a database that instances share, with a participant.
type world struct {
	t           *testing.T
	url         string
	participant *participant
	catalog     *contract.Catalog
	code        registrar
}

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, url: url, catalog: catalog, code: make(registrar),
		participant: &participant{epochs: make(map[string]uint64), done: make(map[string]int)},
	}
	saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName, run)
	return w
}

// unreliable is a directory that can be cut off.
type unreliable struct {
	cluster.Directory

	off *atomic.Bool
}

var errCut = errors.New("the database is cut off")

func (u unreliable) Renew(ctx context.Context, member string) error {
	if u.off.Load() {
		return errCut
	}
	return u.Directory.Renew(ctx, member)
}

func (u unreliable) List(ctx context.Context) (cluster.View, error) {
	if u.off.Load() {
		return cluster.View{}, errCut
	}
	return u.Directory.List(ctx)
}

func (u unreliable) Join(ctx context.Context, joining cluster.Joining) (int, error) {
	if u.off.Load() {
		return 0, errCut
	}
	return u.Directory.Join(ctx, joining)
}

// instance is an orchestrator, as far as it drives sagas.
type instance struct {
	w       *world
	engines *shards.Engines
	cut     atomic.Bool // it doesn't reach the directory
	stop    func()      // hands all shards over
}

// join starts an instance with few shards in all, so that each gets some of the sagas.
func (w *world) join(name string) *instance {
	w.t.Helper()
	database, err := postgres.Connect(w.t.Context(), w.url, journal.Opening{})
	if err != nil {
		w.t.Fatal(err)
	}
	directory, err := clusterdb.Open(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	i := &instance{w: w, engines: shards.New(database)}
	var mu sync.Mutex
	driven := make(map[*cluster.Holding]*engine.Engine)
	member, err := cluster.New(cluster.Config{
		Directory: unreliable{directory, &i.cut}, Address: name + ":1", Shards: 8, Lease: time.Second,
		Logger: slog.New(slog.DiscardHandler),
		Acquired: func(ctx context.Context, held *cluster.Holding) error {
			store, err := database.Shard(ctx, postgres.Owned{
				Shard: held.Shard, Epoch: held.Epoch, Member: held.Member,
			})
			if err != nil {
				return err
			}
			e, err := engine.New(ctx, engine.Config{
				Store: store, Scope: fmt.Sprintf("/%d", held.Shard), Dispatcher: w.participant, Catalog: w.catalog,
				Definitions: w.code, Valid: held.Valid, Fenced: held.Fenced, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				return err
			}
			mu.Lock()
			driven[held] = e
			mu.Unlock()
			i.engines.Add(held.Shard, e)
			if _, err := e.Recover(ctx); err != nil {
				i.lose(held, e)
				return err
			}
			return nil
		},
		Lost: func(held *cluster.Holding) {
			mu.Lock()
			e := driven[held]
			delete(driven, held)
			mu.Unlock()
			i.lose(held, e)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { member.Run(ctx) })
	running.Go(func() {
		_ = database.Watch(ctx, postgres.Watcher{
			Shards: i.engines.Shards, Woken: i.engines.Wake,
			Published: func(uint64) { i.engines.EventsPublished() },
		})
	})
	i.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		directory.Close()
		if err := database.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(i.stop)
	return i
}

// lose stops the engine of a shard.
func (i *instance) lose(held *cluster.Holding, e *engine.Engine) {
	i.engines.Remove(held.Shard)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	if !held.Valid() {
		cancel() // nothing that is under way counts any more
	}
	defer cancel()
	e.Stop(ctx)
}

// awaitShards waits until an instance drives as many shards.
func (i *instance) awaitShards(n int) {
	i.w.t.Helper()
	deadline := time.After(30 * time.Second)
	for len(i.engines.Shards()) != n {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			i.w.t.Fatalf("it drives the shards %v, want %d", i.engines.Shards(), n)
		}
	}
}

// start starts a saga and returns its id.
func (i *instance) start(subject string) string {
	i.w.t.Helper()
	id, err := i.tryStart(subject)
	if err != nil {
		i.w.t.Fatalf("starting %s: %v", subject, err)
	}
	return id
}

func (i *instance) tryStart(subject string) (string, error) {
	request, err := proto.Marshal(&benchv1.RunRequest{Payload: []byte(subject)})
	if err != nil {
		return "", err
	}
	params := engine.StartParams{Definition: definition, Request: request, RequestID: subject}
	if _, err = i.engines.Start(i.w.t.Context(), params); err != nil {
		return "", err
	}
	return engine.NewID(time.Time{}, "", definition, subject), nil
}

// publish publishes the event that a saga awaits.
func (i *instance) publish(subject string) {
	i.w.t.Helper()
	data, err := proto.Marshal(&identityv1.ApplicantVerified{Applicant: subject, RegisterReference: "1"})
	if err != nil {
		i.w.t.Fatal(err)
	}
	event := &journal.Event{
		Source: "register", ID: subject, Type: "acme.identity.v1.ApplicantVerified", Subject: subject, Data: data,
	}
	if _, err := i.engines.Publish(i.w.t.Context(), []*journal.Event{event}); err != nil {
		i.w.t.Fatalf("publishing %s: %v", subject, err)
	}
}

// await waits for the end of a saga at whichever instance drives it.
func (w *world) await(id string, instances ...*instance) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	for n := 0; ; n++ {
		end, err := instances[n%len(instances)].engines.Await(ctx, id)
		switch {
		case err == nil && end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
			return
		case err == nil:
			w.t.Errorf("saga %s ends as %v", id, end.State)
			return
		case ctx.Err() != nil:
			w.t.Fatalf("saga %s doesn't end: %v", id, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}
