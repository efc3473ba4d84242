package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/internal/configfile"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// maxErrors is how many errors of a file are reported.
const maxErrors = 50

// roleName is what an own role may be called.
var roleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Catalog is what a policy may name. Names that aren't in it are mistakes. A nil list isn't checked.
type Catalog struct {
	// Definitions are saga definitions, such as acme.card.v1.CardSagas/IssueCard.
	Definitions []string

	// Methods are commands and compensations, such as acme.card.v1.CardService/IssueCard.
	Methods []string

	// Events are event types, such as acme.card.v1.CardIssued.
	Events []string

	// NamesOnly says that Methods and Events aren't complete, so that patterns of them aren't checked. They have those
	// that exist of the names that the policy has.
	NamesOnly bool
}

// Parse reads a policy. The name of the file is only for errors. If the catalog isn't nil, each definition, method and
// event type of the file must be in it, and each pattern of them must match at least one. The error joins what is wrong
// with the file, each with its place: FILE:LINE:COLUMN.
func Parse(name string, data []byte, catalog *Catalog) (*Policy, error) {
	top, err := configfile.Parse(name, data)
	if err != nil {
		return nil, err
	}
	p := parser{catalog: catalog, roles: maps.Clone(readyRoles), same: make(map[string]bool)}
	var roles, grants *configfile.Entry
	for i := range top.Entries {
		switch e := &top.Entries[i]; e.Key {
		case "roles":
			roles = e
		case "grants":
			grants = e
		default:
			p.add(e.Errorf("unknown key %q: want roles or grants", e.Key))
		}
	}
	if roles != nil {
		p.ownRoles(&roles.Value)
	}
	switch {
	case grants == nil:
		p.add(top.Errorf("no grants: a policy allows nothing without them; to mean that, write %q", "grants: []"))
	case grants.Value.Kind != configfile.List:
		p.add(grants.Value.Errorf("grants is a list: begin each grant with a dash"))
	default:
		for i := range grants.Value.Items {
			p.grant(&grants.Value.Items[i])
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return &Policy{grants: p.grants, known: make(map[principal]*rights)}, nil
}

// parser reads the values of a file.
type parser struct {
	catalog *Catalog
	roles   map[string][]access.Action
	grants  []*grant
	same    map[string]bool // the grants so far, as text
	errs    []error
}

func (p *parser) add(err error) { p.errs = append(p.errs, err) }

func (p *parser) err() error {
	if more := len(p.errs) - maxErrors; more > 0 {
		p.errs = append(p.errs[:maxErrors], fmt.Errorf("and %d more", more))
	}
	return errors.Join(p.errs...)
}

// ownRoles reads the definitions of roles.
func (p *parser) ownRoles(v *configfile.Value) {
	if v.Kind != configfile.Mapping {
		p.add(v.Errorf("roles has a key for each role, with the list of its actions"))
		return
	}
	for i := range v.Entries {
		e := &v.Entries[i]
		switch {
		case readyRoles[e.Key] != nil:
			p.add(e.Errorf("the role %s comes ready: choose another name", e.Key))
		case !roleName.MatchString(e.Key):
			p.add(e.Errorf("%q can't be a role: want at most 63 lower-case letters, digits and hyphens, a letter first",
				e.Key))
		default:
			p.roles[e.Key] = p.actions(&e.Value)
		}
	}
}

// actions reads a list of actions.
func (p *parser) actions(v *configfile.Value) []access.Action {
	var found []access.Action
	for text := range p.texts(v, "actions") {
		action := access.Action(text.Text)
		if indexOf(action) < 0 {
			p.add(text.Errorf("unknown action %q: want %s", text.Text, joined(actions)))
			continue
		}
		found = append(found, action)
	}
	return found
}

// texts yields the items of a list, or a plain value as a list of one. What isn't a text or is there twice is an error.
func (p *parser) texts(v *configfile.Value, key string) func(yield func(*configfile.Value) bool) {
	items := v.Items
	if v.Kind == configfile.Plain {
		items = []configfile.Value{*v}
	}
	return func(yield func(*configfile.Value) bool) {
		if v.Kind == configfile.Mapping || len(items) == 0 {
			p.add(v.Errorf("%s wants a list of at least one", key))
			return
		}
		seen := make(map[string]bool)
		for i := range items {
			item := &items[i]
			switch {
			case item.Kind != configfile.Plain || item.Text == "":
				p.add(item.Errorf("%s wants plain texts", key))
			case seen[item.Text]:
				p.add(item.Errorf("%s has %q twice: keep one", key, item.Text))
			default:
				seen[item.Text] = true
				if !yield(item) {
					return
				}
			}
		}
	}
}

// grant reads one grant.
func (p *parser) grant(v *configfile.Value) {
	if v.Kind != configfile.Mapping {
		p.add(v.Errorf("want a grant: principals, with roles or actions, and resources"))
		return
	}
	before := len(p.errs)
	g := &grant{resources: make(map[resource]*patterns)}
	entries := make(map[string]*configfile.Entry)
	var roles []string
	var own []access.Action
	for i := range v.Entries {
		e := &v.Entries[i]
		entries[e.Key] = e
		switch e.Key {
		case "principals":
			p.principals(g, &e.Value)
		case "roles":
			roles = p.grantedRoles(&e.Value)
		case "actions":
			own = p.actions(&e.Value)
		default:
			if !slices.Contains(resources, resource(e.Key)) {
				p.add(e.Errorf("unknown key %q of a grant: want principals, roles, actions, %s", e.Key,
					joined(resources)))
				continue
			}
			g.resources[resource(e.Key)] = p.resource(resource(e.Key), &e.Value)
		}
	}
	if entries["principals"] == nil {
		p.add(v.Errorf("a grant needs principals"))
	}
	if entries["roles"] == nil && entries["actions"] == nil {
		p.add(v.Errorf("a grant needs roles or actions"))
	}
	if len(p.errs) > before {
		return
	}
	p.complete(g, entries, roles, own)
	text := grantText(v)
	if p.same[text] {
		p.add(v.Errorf("this grant is here twice: keep one"))
	}
	p.same[text] = true
	p.grants = append(p.grants, g)
}

// complete sets the actions of a grant, and reports those without the resources that they need, and resources that no
// action needs.
func (p *parser) complete(
	g *grant, entries map[string]*configfile.Entry, roles []string, own []access.Action,
) {
	if slices.Contains(roles, instanceRole) {
		if len(roles) > 1 || len(own) > 0 || len(g.resources) > 0 {
			p.add(entries["roles"].Errorf("the role %s allows everything: give it a grant of its own, without "+
				"resources", instanceRole))
		}
		for i := range actions {
			g.actions |= 1 << i
		}
		all := &patterns{all: true}
		for _, kind := range resources {
			g.resources[kind] = all
		}
		return
	}
	used := make(map[resource]bool)
	before := len(p.errs)
	allow := func(action access.Action) bool {
		allowed := false
		for _, kinds := range needs(action) {
			if g.lists(kinds) {
				allowed = true
				g.actions |= 1 << indexOf(action)
				for _, kind := range kinds {
					used[kind] = true
				}
			}
		}
		return allowed
	}
	for _, action := range own {
		if !allow(action) {
			p.add(entries["actions"].Errorf("the action %s needs %s: list them, or write %q for all", action,
				needText(action), wildcard))
		}
	}
	for _, role := range roles {
		some := false
		var texts []string
		for _, action := range p.roles[role] {
			some = allow(action) || some
			texts = append(texts, needText(action)+" to "+string(action))
		}
		if !some {
			p.add(entries["roles"].Errorf("the role %s allows nothing here: it needs %s", role,
				strings.Join(texts, ", ")))
		}
	}
	for _, kind := range resources {
		if g.resources[kind] != nil && !used[kind] && len(p.errs) == before {
			p.add(entries[string(kind)].Errorf("no action of this grant is about %s alone: leave them out, or add "+
				"what belongs to them", kind))
		}
	}
}

// needText names the resources that an action needs.
func needText(action access.Action) string {
	var ways []string
	for _, kinds := range needs(action) {
		texts := make([]string, len(kinds))
		for i, kind := range kinds {
			texts[i] = string(kind)
		}
		ways = append(ways, strings.Join(texts, " and "))
	}
	return strings.Join(ways, " or ")
}

func (p *parser) principals(g *grant, v *configfile.Value) {
	for text := range p.texts(v, "principals") {
		pattern, err := principalPattern(text.Text)
		if err != nil {
			p.add(text.Errorf("%q can be nobody: %w", text.Text, err))
			continue
		}
		g.principals.add(pattern)
	}
}

func (p *parser) grantedRoles(v *configfile.Value) []string {
	var roles []string
	for text := range p.texts(v, "roles") {
		if p.roles[text.Text] == nil {
			p.add(text.Errorf("unknown role %q: want %s, or one of roles", text.Text,
				joined(slices.Sorted(maps.Keys(readyRoles)))))
			continue
		}
		roles = append(roles, text.Text)
	}
	return roles
}

// resource reads the names of one kind of resources.
func (p *parser) resource(kind resource, v *configfile.Value) *patterns {
	found := new(patterns)
	for text := range p.texts(v, string(kind)) {
		pattern, err := resourcePattern(kind, text.Text)
		if err == nil {
			err = p.catalog.check(kind, pattern)
		}
		if err != nil {
			p.add(text.Errorf("%s: %q: %w", kind, text.Text, err))
			continue
		}
		found.add(pattern)
	}
	return found
}

// check returns an error if a catalog has no name that a pattern stands for.
func (c *Catalog) check(kind resource, p pattern) error {
	if c == nil || p.tail && p.prefix == "" && len(p.rest) == 0 {
		return nil
	}
	var names []string
	switch kind {
	case definitions:
		names = c.Definitions
	case methods:
		names = c.Methods
	case events:
		names = c.Events
	case sources, consumers:
	}
	if names == nil || c.NamesOnly && kind != definitions && !p.exact() {
		return nil
	}
	if !slices.ContainsFunc(names, p.matches) {
		return fmt.Errorf("no contract has it: correct it, or write %q for all", wildcard)
	}
	return nil
}

// grantText returns a grant as text that is the same for grants with the same keys and values.
func grantText(v *configfile.Value) string {
	var lines []string
	for i := range v.Entries {
		e := &v.Entries[i]
		texts := []string{e.Value.Text}
		for j := range e.Value.Items {
			texts = append(texts, e.Value.Items[j].Text)
		}
		slices.Sort(texts)
		lines = append(lines, fmt.Sprintf("%s %q", e.Key, texts))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func joined[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}
