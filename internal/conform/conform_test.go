package conform_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/conform"
)

// TestMistakes lets the checks find each mistake of a participant: no fewer and no other guarantees fail than those
// that it breaks.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		mistake mistake
		accepts bool
		fails   []string
		may     []string // fail, too
		says    string   // in the first failure
	}{
		{mistake: none},
		{mistake: none, accepts: true},
		{
			mistake: noInbox,
			fails: []string{
				"duplicate", "concurrent-duplicates", "reply-lost", "restart", "undo-twice", "undo-first",
				"late-action", "undo-beside-action", "refusal", "stale-epoch", "other-request", "marks",
			},
			says: "the duplicate was answered OK with another reply",
		},
		{
			mistake: noLock, fails: []string{"concurrent-duplicates", "undo-beside-action"},
			may: []string{"reply-lost"}, says: "of 16 deliveries at the same time",
		},
		{
			mistake: notDurable, fails: []string{"restart"},
			says: "after a restart: the duplicate was answered OK with another reply",
		},
		{
			mistake: lateActionOK, fails: []string{"undo-first", "marks"}, may: []string{"undo-beside-action"},
			says: "an action that arrived after its compensation was answered OK",
		},
		{
			mistake: undoNotOnce, fails: []string{"undo-twice"},
			says: "after the compensation, the command has -1 effects",
		},
		{
			mistake: undoNeedsReply, fails: []string{"undo-without-reply"}, may: []string{"undo-beside-action"},
			says: "after the compensation, the command has one effect",
		},
		{
			mistake: nullUndoForgotten, fails: []string{"undo-first", "marks"}, may: []string{"undo-beside-action"},
			says: "an action that arrived after its compensation was answered OK",
		},
		{
			mistake: undoRefusedBefore, fails: []string{"undo-first", "refusal", "marks"},
			may: []string{"undo-beside-action"}, says: "before the action: the compensation was answered NotFound",
		},
		{
			mistake: undoDoesNothing, fails: []string{"undo", "undo-without-reply", "undo-twice", "late-action"},
			may: []string{"undo-beside-action"}, says: "after the compensation, the command has one effect",
		},
		{
			mistake: effectOutside, fails: []string{"executed"},
			says: "after one delivery, the command has 2 effects",
		},
		{
			mistake: anyEpoch, fails: []string{"stale-epoch", "epoch-ahead"},
			says: "under epoch 4, after one under epoch 5",
		},
		{mistake: epochKept, fails: []string{"epoch-ahead"}, says: "with a present epoch of the same scope"},
		{
			mistake: anyRequest, fails: []string{"other-request"},
			says: "another request under the same command id was answered OK",
		},
		{
			mistake: anyMetadata, fails: []string{"broken-metadata"},
			says: "a command without the direction was answered OK",
		},
		{mistake: noMarks},
		{mistake: wrongMark, fails: []string{"marks"}, says: `want the mark "attempt"`},
		{mistake: refusalSwallowed, fails: []string{"refusal"}, says: "the request that is refused was answered OK"},
		{mistake: refusalUndeclared, fails: []string{"refusal"}, says: "carries a acme.customer.v1.EmailTaken"},
		{
			mistake: refusalHasEffect, fails: []string{"refusal"},
			says: "after a refusal, the command has one effect, want no effect",
		},
		{
			mistake: otherReply, fails: []string{"duplicate", "concurrent-duplicates", "restart", "other-request"},
			may: []string{"reply-lost"}, says: "answered OK with another reply",
		},
		{
			mistake: lateCompletion, accepts: true, fails: []string{"pending-undone"},
			may:  []string{"*"}, // what earlier checks left is completed, too
			says: "after a completion that came too late",
		},
		{
			mistake: completedTwice, accepts: true, fails: []string{"executed"},
			says: "after one delivery, the command has 2 effects",
		},
		{
			mistake: undoHangs,
			fails: []string{
				"undo", "undo-without-reply", "undo-twice", "undo-first", "late-action", "undo-beside-action",
				"refusal", "other-request", "marks",
			},
			says: "the compensation: no answer that settles the command after one attempt in",
		},
		{mistake: everythingRefused, fails: []string{"executed"}, says: "give a request that succeeds"},
		{
			mistake: metadataNeeded, fails: []string{"no-metadata"},
			says: "a call without metadata was answered Internal",
		},
	} {
		t.Run(fmt.Sprint(test.mistake, test.accepts), func(t *testing.T) {
			s := newShop(test.mistake)
			s.accepts = test.accepts
			checker, err := s.begin(t)
			if err != nil {
				t.Fatal(err)
			}
			command, err := checker.Command(s.given())
			if err != nil {
				t.Fatal(err)
			}
			failed := map[string]string{}
			for _, g := range append(command.Guarantees(), command.ParticipantGuarantees()...) {
				result := command.Check(t.Context(), g)
				t.Log(g.ID, result.Verdict, result.Text)
				if result.Verdict == conform.Fails {
					failed[g.ID] = result.Text
				}
			}
			for _, id := range test.fails {
				if failed[id] == "" {
					t.Errorf("%s should fail", id)
				}
			}
			for id := range failed {
				if allowed := slices.Concat(test.fails, test.may); !slices.Contains(allowed, id) &&
					!slices.Contains(allowed, "*") {
					t.Errorf("%s fails, and should hold", id)
				}
			}
			if len(test.fails) > 0 && !strings.Contains(failed[test.fails[0]], test.says) {
				t.Errorf("%s says %q, want %q in it", test.fails[0], failed[test.fails[0]], test.says)
			}
		})
	}
}

// TestBadInput gives the kit what it can't work with.
func TestBadInput(t *testing.T) {
	s := newShop(none)
	checker, err := s.begin(t)
	if err != nil {
		t.Fatal(err)
	}
	method := func(name protoreflect.Name) protoreflect.MethodDescriptor {
		return customerv1.File_acme_customer_v1_customer_service_proto.Services().Get(0).Methods().ByName(name)
	}
	with := func(change func(*conform.Case)) conform.Case {
		given := s.given()
		change(&given)
		return given
	}
	for _, test := range []struct {
		name  string
		given conform.Case
		want  string
	}{
		{"no command", with(func(c *conform.Case) { c.Method = method("CloseCustomer") }), "isn't a command"},
		{"no request", with(func(c *conform.Case) { c.Request = nil }), "has no request"},
		{"another request", with(func(c *conform.Case) {
			c.Request = func(string) (proto.Message, error) { return &cardv1.IssueCardRequest{}, nil }
		}), "the request must be a acme.customer.v1.ChangeAddressRequest"},
		{"a request that can't be made", with(func(c *conform.Case) {
			c.Request = func(string) (proto.Message, error) { return nil, errors.New("no ink") }
		}), "making a request: no ink"},
		{"a probe that fails", with(func(c *conform.Case) {
			c.Effects = func(context.Context) (int, error) { return 0, errors.New("no table") }
		}), "counting the effects: no table"},
		{"a probe that panics", with(func(c *conform.Case) {
			c.Effects = func(context.Context) (int, error) { panic("no database") }
		}), "has panicked: no database"},
	} {
		command, err := checker.Command(test.given)
		got := fmt.Sprint(err)
		if err == nil {
			got = command.Check(t.Context(), command.Guarantees()[0]).Text
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q in it", test.name, got, test.want)
		}
	}
}

// TestNobodyAnswers starts the kit at an address where nobody listens.
func TestNobodyAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = conform.Start(t.Context(), conform.Suite{Conn: dial(t, address)})
	if !errors.Is(err, conform.ErrUnreachable) || !strings.Contains(err.Error(), address) {
		t.Errorf("%v, want ErrUnreachable with %s", err, address)
	}
}

// TestWhatIsLeft checks that what can't be undone is told.
func TestWhatIsLeft(t *testing.T) {
	s := newShop(none)
	checker, err := s.begin(t)
	if err != nil {
		t.Fatal(err)
	}
	command, err := checker.Command(s.given())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range command.Guarantees() {
		command.Check(t.Context(), g)
	}
	const name = "acme.customer.v1.CustomerService/ChangeAddress"
	want := []conform.Left{{Method: name, Count: 1, Why: "called without metadata"}}
	if diff := cmp.Diff(want, checker.Left()); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if n, _ := s.count(t.Context()); n != 1 {
		t.Errorf("%d effects are there, want 1", n)
	}
}
