package machine_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// block is a line of a script with the lines indented under it. A script is the saga code of a scenario. A line that
// fails ends its block, unless stated otherwise:
//
//	call A(text)             sends the command A
//	try A                    sends A and ignores its failure
//	either A B               sends B if A fails
//	now A                    sends A with the current time as the request
//	all                      runs blocks, each under a line "branch", in parallel
//	each 2 A B C             sends a command for each item, two at a time
//	scope [1h]               runs its block as a scope, and continues if it fails
//	scope-or [1h] B          the same, and sends B if it fails
//	scope-must [1h]          the same, and fails if it fails
//	or-all A                 runs branches as "all" does, and sends A if one fails
//	loop 3                   runs its block three times
//	add text                 adds to a variable that all branches share
//	call-added A             sends A with the variable as the request
//	sleep 1h                 waits; -1h is a moment that has passed
//	await E(key) [1h]        awaits an event; sends "Got(position)", or "Late" after the timeout
//	first E(a) F(b) [1h]     awaits the first of several events; sends the same
//	version x 2 A B C        sends A for version 0 of the change x, B for 1, C for 2; the latest is 2
//	progress text            sets the progress
//	broadcast B              broadcasts B
//	restart text             restarts with another request, unless the request is "last"
//	outer A                  sends A with the main thread, which is a mistake in a branch
//	panic text, fail text, return text
type block struct {
	line string
	sub  []*block
}

func parse(lines []string) []*block {
	var blocks []*block
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if strings.HasPrefix(line, "  ") && len(blocks) > 0 {
			last := blocks[len(blocks)-1]
			last.sub = append(last.sub, &block{line: strings.TrimPrefix(line, "  ")})
			continue
		}
		blocks = append(blocks, &block{line: line})
	}
	for _, b := range blocks {
		var nested []string
		for _, sub := range b.sub {
			nested = append(nested, sub.line)
		}
		b.sub = parse(nested)
	}
	return blocks
}

// script returns the saga code of a script.
func script(lines []string) machine.Code {
	blocks := parse(lines)
	return func(thread *machine.Thread, request []byte) ([]byte, *treatyv1.Failure) {
		r := &runner{main: thread, request: string(request)}
		if failure := r.run(thread, blocks); failure != nil {
			return nil, failure
		}
		if r.reply == nil {
			r.reply = []byte{}
		}
		return r.reply, nil
	}
}

type runner struct {
	main    *machine.Thread
	request string
	reply   []byte
	done    bool
	shared  []string
}

func (r *runner) run(t *machine.Thread, blocks []*block) *treatyv1.Failure {
	for _, b := range blocks {
		if failure := r.line(t, b); failure != nil || r.done {
			return failure
		}
	}
	return nil
}

func call(t *machine.Thread, name string) *treatyv1.Failure {
	method, request, _ := strings.Cut(name, "(")
	return t.Call(&machine.Call{Method: method, Request: []byte(strings.TrimSuffix(request, ")"))}).Failure
}

func (r *runner) line(t *machine.Thread, b *block) *treatyv1.Failure {
	verb, rest, _ := strings.Cut(b.line, " ")
	words := strings.Fields(rest)
	switch verb {
	case "call":
		return call(t, rest)
	case "try":
		call(t, rest)
	case "outer":
		return call(r.main, rest)
	case "either":
		if call(t, words[0]) != nil {
			return call(t, words[1])
		}
	case "now":
		return call(t, fmt.Sprintf("%s(%s)", rest, t.Now().Format("15:04:05")))
	case "panic":
		panic(rest)
	case "fail":
		return &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: rest}
	case "return":
		r.reply, r.done = []byte(rest), true
	default:
		return r.language(t, b, verb, words)
	}
	return nil
}

func (r *runner) language(t *machine.Thread, b *block, verb string, words []string) *treatyv1.Failure {
	branch := func(i int, t *machine.Thread) *treatyv1.Failure { return r.run(t, b.sub[i].sub) }
	switch verb {
	case "all":
		return branched(t, &machine.Branches{Count: len(b.sub)}, branch)
	case "each":
		limit, _ := strconv.Atoi(words[0])
		item := func(i int, t *machine.Thread) *treatyv1.Failure { return call(t, words[i+1]) }
		return branched(t, &machine.Branches{Count: len(words) - 1, AtOnce: limit}, item)
	case "or-all":
		if branched(t, &machine.Branches{Count: len(b.sub)}, branch) != nil {
			return call(t, words[0])
		}
	case "loop":
		times, _ := strconv.Atoi(words[0])
		for range times {
			if failure := r.run(t, b.sub); failure != nil || r.done {
				return failure
			}
		}
	case "add":
		r.shared = append(r.shared, words...)
	case "call-added":
		return call(t, words[0]+"("+strings.Join(r.shared, " ")+")")
	case "scope", "scope-or", "scope-must":
		within, words := period(words)
		body := func(_ int, t *machine.Thread) *treatyv1.Failure { return r.run(t, b.sub) }
		failure := branched(t, &machine.Branches{Count: 1, Compensate: true, Within: within}, body)
		switch {
		case failure != nil && verb == "scope-must":
			return failure
		case failure != nil && len(words) > 0:
			return call(t, words[0])
		}
	case "sleep":
		within, _ := period(words)
		t.Wait(&machine.Wait{Until: t.Now().Add(within)})
	case "await", "first":
		return await(t, words)
	case "version":
		latest, _ := strconv.Atoi(words[1])
		return call(t, words[2+t.Version(words[0], int32(latest))])
	case "progress":
		t.SetProgress(&anypb.Any{Value: []byte(strings.Join(words, " "))})
	case "broadcast":
		send := func(participant string, t *machine.Thread) *treatyv1.Failure {
			return t.Call(&machine.Call{Method: words[0], Participant: participant}).Failure
		}
		_, result := t.Broadcast(&machine.Broadcast{Method: words[0]}, send)
		if result.Failed >= 0 {
			return &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "broadcast failed"}
		}
	case "restart":
		if r.request != "last" {
			t.Restart([]byte(words[0]))
			r.done = true
		}
	}
	return nil
}

func branched(
	t *machine.Thread, branches *machine.Branches, body func(int, *machine.Thread) *treatyv1.Failure,
) *treatyv1.Failure {
	failures := make([]*treatyv1.Failure, branches.Count)
	branches.Body = func(i int, t *machine.Thread) *treatyv1.Failure {
		failures[i] = body(i, t)
		return failures[i]
	}
	switch result := t.Branch(branches); {
	case result.Expired:
		return &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "too late"}
	case result.Failed >= 0:
		return failures[result.Failed]
	}
	return nil
}

// period removes a duration from the words, if there is one.
func period(words []string) (time.Duration, []string) {
	for i, word := range words {
		if d, err := time.ParseDuration(word); err == nil {
			return d, append(append([]string{}, words[:i]...), words[i+1:]...)
		}
	}
	return 0, words
}

func await(t *machine.Thread, words []string) *treatyv1.Failure {
	within, words := period(words)
	wait := &machine.Wait{}
	if within > 0 {
		wait.Until = t.Now().Add(within)
	}
	for _, word := range words {
		typ, subject, _ := strings.Cut(strings.TrimSuffix(word, ")"), "(")
		wait.Events = append(wait.Events, &treatyv1.EventKey{Type: typ, Subject: subject})
	}
	if event := t.Wait(wait).Event; event != nil {
		return call(t, fmt.Sprintf("Got(%d)", event.GetPosition()))
	}
	return call(t, "Late")
}
