package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// contracts are the contracts of the sagas here, for a change.
type contracts struct {
	work  *descriptorpb.MethodDescriptorProto
	bench *descriptorpb.FileDescriptorProto

	// event is the awaited event, identity the file that it is in.
	event    *descriptorpb.DescriptorProto
	identity *descriptorpb.FileDescriptorProto
}

// command changes the options of the command.
func (c contracts) command(change func(*treatyv1.Command)) {
	command, _ := proto.GetExtension(c.work.GetOptions(), treatyv1.E_Command).(*treatyv1.Command)
	change(command)
}

// message returns a message of the benchmark.
func (c contracts) message(name string) *descriptorpb.DescriptorProto {
	for _, message := range c.bench.GetMessageType() {
		if message.GetName() == name {
			return message
		}
	}
	return nil
}

// afterChange returns the contracts after a change.
func afterChange(t *testing.T, change func(contracts)) *contract.Catalog {
	t.Helper()
	c := contracts{
		bench:    protodesc.ToFileDescriptorProto(benchv1.File_bench_v1_bench_proto),
		identity: protodesc.ToFileDescriptorProto(identityv1.File_acme_identity_v1_identity_events_proto),
	}
	c.bench, c.identity = proto.CloneOf(c.bench), proto.CloneOf(c.identity) // the options are shared
	c.work, c.event = c.bench.GetService()[0].GetMethod()[0], c.identity.GetMessageType()[0]
	change(c)
	files := new(protoregistry.Files)
	for _, changed := range []*descriptorpb.FileDescriptorProto{c.bench, c.identity} {
		file, err := protodesc.NewFile(changed, protoregistry.GlobalFiles)
		if err != nil {
			t.Fatal(err)
		}
		if err := files.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	catalog, err := contract.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func without(fields []*descriptorpb.FieldDescriptorProto, number int32) []*descriptorpb.FieldDescriptorProto {
	var left []*descriptorpb.FieldDescriptorProto
	for _, field := range fields {
		if field.GetNumber() != number {
			left = append(left, field)
		}
	}
	return left
}

// moveKey makes another field the correlation key of the event.
func moveKey(c contracts) {
	for _, field := range c.event.GetField() {
		if proto.HasExtension(field.GetOptions(), treatyv1.E_CorrelationKey) {
			field.Options = nil
		}
	}
	options := new(descriptorpb.FieldOptions)
	proto.SetExtension(options, treatyv1.E_CorrelationKey, true)
	c.event.Field = append(c.event.Field, &descriptorpb.FieldDescriptorProto{
		Name: new("case"), JsonName: new("case"), Number: new(int32(99)), Options: options,
		Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	})
}

// pivotOnly makes the command a pivot, which nothing compensates.
func pivotOnly(c contracts) {
	c.command(func(command *treatyv1.Command) { command.Kind = &treatyv1.Command_Pivot{} })
}

// TestVerifyComparesContracts verifies a saga with one command done, another in flight, and an event awaited. Each
// change of a contract is found, at its step.
func TestVerifyComparesContracts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(contracts)
		step   string
		says   string
	}{
		"nothing": {func(contracts) {}, "", ""},
		"a field more": {func(c contracts) {
			c.message("WorkDone").Field = append(c.message("WorkDone").Field, &descriptorpb.FieldDescriptorProto{
				Name: new("more"), JsonName: new("more"), Number: new(int32(9)),
				Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}, "", ""},
		"the command is gone": {func(c contracts) { c.work.Options = nil }, "1",
			"the compensation bench.v1.WorkService/UndoWork of bench.v1.WorkService/Work"},
		"the compensation is gone": {pivotOnly, "1",
			"no command of this build is compensated by it"},
		"a field of the compensation has another number": {func(c contracts) {
			*c.message("UndoWorkRequest").Field[0].Number = 7
		}, "1", "a field 1 of bench.v1.UndoWorkRequest for the request of bench.v1.WorkService/Work"},
		"a field of the request has another type": {func(c contracts) {
			c.message("WorkRequest").Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		}, "1", "a request of bench.v1.WorkService/Work with field 1 as the journal holds it"},
		"a field of the request is removed": {func(c contracts) {
			message := c.message("WorkRequest")
			message.Field = without(message.GetField(), 1)
			message.ReservedRange = []*descriptorpb.DescriptorProto_ReservedRange{{
				Start: new(int32(1)), End: new(int32(2)),
			}}
		}, "1", "a request of bench.v1.WorkService/Work with field 1 as the journal holds it"},
		"the reply isn't a message any more": {func(c contracts) {
			c.message("WorkDone").Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		}, "1", "a reply of bench.v1.WorkService/Work that is a bench.v1.WorkDone"},
		"the event is gone": {func(c contracts) {
			c.event.Options = nil
			for _, field := range c.event.GetField() {
				field.Options = nil
			}
		}, "2.2.1", "the event acme.identity.v1.ApplicantVerified, which the saga awaits"},
		"the event has another key": {moveKey, "2.2.1",
			"its correlation key is case (field 99), so no event wakes the saga"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					if err := work(ctx, 1); err != nil {
						return nil, err
					}
					return &benchv1.RunDone{}, saga.All(ctx,
						func(ctx saga.Context) error { return work(ctx, 2) },
						func(ctx saga.Context) error {
							_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
							return err
						})
				})
				reply, err := proto.Marshal(&benchv1.WorkDone{Payload: []byte{0xff}}) // it isn't UTF-8
				if err != nil {
					t.Fatal(err)
				}
				w.participant.answer("action 1", engine.Answer{
					Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply,
				})
				defer w.participant.stall("action 2.1.1")()
				w.start(1)
				<-w.participant.held
				synctest.Wait()
				w.wantFinding(test.change, test.step, test.says)
			})
		})
	}
}

// TestVerifyComparesOpenCommands verifies a saga whose only command is in flight, and will be sent again.
func TestVerifyComparesOpenCommands(t *testing.T) {
	kind := func(change func(*treatyv1.Command)) func(contracts) {
		return func(c contracts) { c.command(change) }
	}
	for name, test := range map[string]struct {
		change func(contracts)
		says   string
	}{
		"nothing": {func(contracts) {}, ""},
		"the command is gone": {func(c contracts) { c.work.Options = nil },
			"bench.v1.WorkService/Work, which may still be sent"},
		"it is a pivot": {pivotOnly,
			"compensatable command bench.v1.WorkService/Work: its contract says pivot"},
		"it is retriable": {kind(func(c *treatyv1.Command) { c.Kind = &treatyv1.Command_Retriable{} }),
			"its contract says retriable"},
		"it is a query": {kind(func(c *treatyv1.Command) { c.Kind = &treatyv1.Command_Query{} }),
			"its contract says query"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					return &benchv1.RunDone{}, work(ctx, 1)
				})
				defer w.participant.stall("action 1")()
				w.start(1)
				<-w.participant.held
				w.wantFinding(test.change, "1", test.says)
			})
		})
	}
}

// TestVerifyComparesCompensations verifies a saga that is being compensated. It needs no code, but its contracts.
func TestVerifyComparesCompensations(t *testing.T) {
	for name, test := range map[string]struct {
		change func(contracts)
		says   string
	}{
		"nothing":                  {func(contracts) {}, ""},
		"the event is gone":        {moveKey, ""},
		"the compensation is gone": {pivotOnly, "no command of this build is compensated by it"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.participant.answer("action 2", refused)
				defer w.participant.stall("compensation 1")()
				w.start(2)
				<-w.participant.held
				w.wantFinding(test.change, "1", test.says)
			})
		})
	}
}

// wantFinding verifies the only open saga with changed contracts, and compares what is found. An empty text means that
// nothing is.
func (w *fixture) wantFinding(change func(contracts), step, says string) {
	w.t.Helper()
	var found *treatyv1.SagaSuspended
	n, err := engine.Verify(w.t.Context(), engine.VerifyParams{
		Store: w.store, Catalog: afterChange(w.t, change), Definitions: w.code,
		Report: func(_ *journal.Row, wrong *treatyv1.SagaSuspended) { found = wrong },
	})
	if err != nil || n != 1 {
		w.t.Fatalf("verified %d sagas: %v", n, err)
	}
	text := found.GetExpected() + ": " + found.GetFound()
	switch {
	case says == "" && found != nil:
		w.t.Errorf("found %v", found)
	case says != "" && (found.GetStep() != step || !strings.Contains(text, says)):
		w.t.Errorf("found %v, want %q at step %s", found, says, step)
	}
}

// FuzzRetyped compares any bytes with a type. What it finds is a field that the bytes have.
func FuzzRetyped(f *testing.F) {
	request, err := proto.Marshal(&benchv1.UndoWorkRequest{Action: &benchv1.WorkRequest{Step: 1, Payload: []byte("p")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00}) // the number of the action's step is a text
	f.Add([]byte{0x0b, 0x0b, 0x0c})       // a group that doesn't end
	message := benchv1.File_bench_v1_bench_proto.Messages().ByName("UndoWorkRequest")
	f.Fuzz(func(t *testing.T, data []byte) {
		found := engine.Retyped(message, data, "request")
		switch err := proto.Unmarshal(data, new(benchv1.UndoWorkRequest)); {
		case err != nil && found == nil:
			t.Errorf("nothing is found in bytes that can't be read: %v", err)
		case len(data) == 0 && found != nil:
			t.Errorf("an empty message has %v", found)
		}
	})
}

// TestChangedEventsAreSaid restarts an engine whose contracts have another correlation key for an event that two sagas
// await. The log names the event once, and each saga has a warning. Sagas that await it by its key have none.
func TestChangedEventsAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
			return &benchv1.RunDone{}, err
		})
		first, second := w.start(1), w.start(1)
		synctest.Wait()
		var log bytes.Buffer
		restart := func(change func(contracts)) string {
			w.stop()
			w.store = w.store.(*journaltest.Memory).Reopen()
			log.Reset()
			w.logger, w.catalog = slog.New(slog.NewTextHandler(&log, nil)), afterChange(t, change)
			w.open()
			synctest.Wait()
			return log.String()
		}
		if text := restart(func(contracts) {}); strings.Contains(text, "can't wake") ||
			w.get(first.ID).GetWarning() != "" {
			t.Errorf("without a change: %q, %q", text, w.get(first.ID).GetWarning())
		}
		text := restart(moveKey)
		if strings.Count(text, "sagas await an event that can't wake them") != 1 ||
			!strings.Contains(text, "sagas=2") || !strings.Contains(text, "applicant (field 1)") ||
			!strings.Contains(text, "case (field 99)") {
			t.Errorf("the log says %q", text)
		}
		for _, handle := range []*engine.Handle{first, second} {
			if warning := w.get(handle.ID).GetWarning(); !strings.Contains(warning, "so no event wakes") {
				t.Errorf("the warning is %q", warning)
			}
		}
	})
}
