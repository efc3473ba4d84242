package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// wildcard stands for a whole segment of a pattern: exactly one, or at the end of the pattern one or more.
const wildcard = "*"

// pattern is an exact text, or one in which wildcards stand for segments.
type pattern struct {
	prefix     string   // the text before the first wildcard
	rest       []string // the texts after wildcards in the middle, each of which begins with a separator
	tail       bool     // a wildcard ends the pattern
	separators string   // the characters between segments
}

// newPattern splits a text at its wildcards. Each has to be a whole segment.
func newPattern(text, separators string) (pattern, error) {
	parts := strings.Split(text, wildcard)
	p := pattern{prefix: parts[0], separators: separators}
	isSeparator := func(c byte) bool { return strings.IndexByte(separators, c) >= 0 }
	for i, part := range parts[1:] {
		before := parts[i]
		begins := before == "" && i == 0 || before != "" && isSeparator(before[len(before)-1])
		ends := part == "" && i == len(parts)-2
		if !begins || !ends && (part == "" || !isSeparator(part[0])) {
			return pattern{}, fmt.Errorf("want * only as a whole segment: segments end at %q", separators)
		}
		if ends {
			p.tail = true
		} else {
			p.rest = append(p.rest, part)
		}
	}
	return p, nil
}

// exact returns whether the pattern has no wildcard.
func (p *pattern) exact() bool { return !p.tail && len(p.rest) == 0 }

// matches returns whether the pattern stands for a text.
func (p *pattern) matches(text string) bool {
	rest, ok := strings.CutPrefix(text, p.prefix)
	if !ok {
		return false
	}
	for _, part := range p.rest {
		end := strings.IndexAny(rest, p.separators)
		if end <= 0 {
			return false
		}
		if rest, ok = strings.CutPrefix(rest[end:], part); !ok {
			return false
		}
	}
	if p.tail {
		return rest != "" && strings.IndexByte(p.separators, rest[0]) < 0
	}
	return rest == ""
}

// patterns are what one list of a grant names.
type patterns struct {
	all   bool
	exact map[string]bool
	wild  []pattern
}

func (p *patterns) add(next pattern) {
	switch {
	case next.tail && next.prefix == "" && len(next.rest) == 0:
		p.all = true
	case next.exact():
		if p.exact == nil {
			p.exact = make(map[string]bool)
		}
		p.exact[next.prefix] = true
	default:
		p.wild = append(p.wild, next)
	}
}

// match returns whether a text is named. Only a wildcard alone names an empty text. A nil list names nothing.
func (p *patterns) match(text string) bool {
	switch {
	case p == nil:
		return false
	case p.all:
		return true
	case p.exact[text]:
		return true
	}
	for i := range p.wild {
		if p.wild[i].matches(text) {
			return true
		}
	}
	return false
}

var (
	domainPattern    = regexp.MustCompile(`^[a-z0-9._-]+$`)
	spiffeSegment    = regexp.MustCompile(`^([A-Za-z0-9._-]+|\*)$`)
	dnsLabel         = regexp.MustCompile(`^([a-z0-9_-]+|\*)$`)
	protoSegment     = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*|\*)$`)
	consumerPattern  = regexp.MustCompile(`^[a-z0-9*-]{1,63}$`)
	errWantPrincipal = errors.New("want a principal: spiffe://DOMAIN/PATH, x509:AUTHORITY:SUBJECT, " +
		"dns:AUTHORITY:NAME, jwt:ISSUER#SUBJECT, local:UID, local or anonymous")
)

// principalPattern reads a pattern of the identities of principals. It refuses one that can match no identity.
func principalPattern(text string) (pattern, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch scheme {
	case "spiffe":
		return spiffePattern(text, rest)
	case "x509":
		authority, subject, ok := strings.Cut(rest, ":")
		if !ok || authority == "" || subject == "" {
			return pattern{}, errors.New("want x509:AUTHORITY:SUBJECT")
		}
		if strings.Contains(authority, wildcard) || subject != wildcard && strings.Contains(subject, wildcard) {
			return pattern{}, errors.New("want * only as the whole subject of a certificate")
		}
		return escapedPattern(text, ":", escapedPart{authority, ":"}, escapedPart{subject, ""})
	case "dns":
		return dnsPattern(text, rest)
	case "jwt":
		issuer, subject, ok := strings.Cut(rest, "#")
		if !ok || issuer == "" || subject == "" {
			return pattern{}, errors.New("want jwt:ISSUER#SUBJECT")
		}
		if strings.Contains(issuer, wildcard) {
			return pattern{}, errors.New("name the issuer: * can't stand for it")
		}
		return escapedPattern(text, "#:/", escapedPart{issuer, "#"}, escapedPart{subject, ""})
	case "local":
		if text == "local" {
			return pattern{prefix: text}, nil
		}
		uid, err := strconv.ParseUint(rest, 10, 32)
		if rest != wildcard && (err != nil || strconv.FormatUint(uid, 10) != rest) {
			return pattern{}, errors.New("want local:UID with the number of a user, such as local:1000, or local:*")
		}
		return newPattern(text, ":")
	case "anonymous":
		if text == scheme {
			return pattern{prefix: text}, nil
		}
	}
	return pattern{}, errWantPrincipal
}

func spiffePattern(text, rest string) (pattern, error) {
	id, ok := strings.CutPrefix(rest, "//")
	domain, path, hasPath := strings.Cut(id, "/")
	if !ok || domain == "" {
		return pattern{}, errors.New("want spiffe://DOMAIN/PATH")
	}
	if !domainPattern.MatchString(domain) {
		return pattern{}, errors.New("a trust domain has lower-case letters, digits, dots, hyphens and underscores " +
			"only, and no *")
	}
	if hasPath {
		for segment := range strings.SplitSeq(path, "/") {
			if !spiffeSegment.MatchString(segment) || segment == "." || segment == ".." {
				return pattern{}, fmt.Errorf("%q can't be a segment of a SPIFFE id: want letters, digits, dots, "+
					"hyphens and underscores, or * alone", segment)
			}
		}
	}
	return newPattern(text, "/")
}

func dnsPattern(text, rest string) (pattern, error) {
	authority, name, ok := strings.Cut(rest, ":")
	if !ok || authority == "" || name == "" || strings.Contains(authority, wildcard) {
		return pattern{}, errors.New("want dns:AUTHORITY:NAME, and * only in the name")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !dnsLabel.MatchString(label) {
			return pattern{}, fmt.Errorf("%q can't be a label of a DNS name: want lower-case letters, digits, hyphens "+
				"and underscores, or * alone", label)
		}
	}
	if strings.HasSuffix(name, "."+wildcard) {
		return pattern{}, errors.New("a DNS name can't end with *: that would be names of any domain")
	}
	return escapedPattern(text, ":.", escapedPart{authority, ":"})
}

// escapedPart is a part of an identity as access.Principal writes it, in which some separators are escaped.
type escapedPart struct{ text, separators string }

// escapedPattern returns a pattern of an identity whose parts are written as access.Principal writes them.
func escapedPattern(text, separators string, parts ...escapedPart) (pattern, error) {
	for _, part := range parts {
		for i := 0; i < len(part.text); i++ {
			switch c := part.text[i]; {
			case c < ' ' || c > '~':
				return pattern{}, fmt.Errorf("write the byte 0x%02X as %%%02X", c, c)
			case c == '%':
				if err := checkEscape(part.text[i:], part.separators); err != nil {
					return pattern{}, err
				}
				i += 2
			}
		}
	}
	return newPattern(text, separators)
}

// checkEscape returns what is wrong with the escaped byte that a text begins with.
func checkEscape(text, separators string) error {
	text = text[:min(3, len(text))]
	code, err := strconv.ParseUint(text[1:], 16, 8)
	if err != nil || text != fmt.Sprintf("%%%02X", code) {
		return fmt.Errorf("%q is no byte: want two digits or upper-case letters after %%, and %%25 for %% itself", text)
	}
	if c := byte(code); c != '%' && c >= ' ' && c <= '~' && strings.IndexByte(separators, c) < 0 {
		return fmt.Errorf("write %c instead of %s", c, text)
	}
	return nil
}

// resourcePattern reads a pattern of a resource's names.
func resourcePattern(kind resource, text string) (pattern, error) {
	switch kind {
	case definitions, methods:
		if err := protoName(text, "./"); err != nil {
			return pattern{}, err
		}
		if slashes := strings.Count(text, "/"); slashes > 1 || slashes == 0 && !strings.HasSuffix(text, wildcard) ||
			slashes == 1 && strings.Contains(text[strings.IndexByte(text, '/'):], ".") {
			return pattern{}, errors.New("want SERVICE/METHOD, such as acme.card.v1.CardSagas/IssueCard")
		}
		return newPattern(text, "./")
	case events:
		if err := protoName(text, "."); err != nil {
			return pattern{}, err
		}
		return newPattern(text, ".")
	case consumers:
		if !consumerPattern.MatchString(text) {
			return pattern{}, errors.New("a consumer has 1 to 63 lower-case letters, digits and hyphens")
		}
		return newPattern(text, "-")
	case sources:
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return pattern{}, errors.New("a source is a URI reference, without spaces and with ASCII only")
		}
	}
	return newPattern(text, "/")
}

// protoName returns what is wrong with a name whose segments are protobuf identifiers or wildcards.
func protoName(text, separators string) error {
	rest := text
	for {
		end := strings.IndexAny(rest, separators)
		segment := rest
		if end >= 0 {
			segment = rest[:end]
		}
		if !protoSegment.MatchString(segment) {
			return fmt.Errorf("%q can't be a part of a name: want letters, digits and underscores, or * alone", segment)
		}
		if end < 0 {
			return nil
		}
		rest = rest[end+1:]
	}
}
