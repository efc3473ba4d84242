package orchestrator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/internal/configfile"
)

// configFlag is the name of the flag that names the configuration file.
const configFlag = "config"

// fromFile sets the flags in set that neither the command line nor the environment has set, from the configuration
// file, if one is given. The keys of the file are the names of the flags; see docs/operating.md. All errors are
// reported, each with its place.
func (f *flags) fromFile(set *pflag.FlagSet) error {
	if f.config == "" {
		return nil
	}
	data, err := readLimited(f.config)
	if err != nil {
		return usageError{fmt.Errorf("reading the configuration: %w", err)}
	}
	top, err := configfile.Parse(f.config, data)
	if err != nil {
		return usageError{err}
	}
	file := fileConfig{set: set, flags: f, before: make(map[string]bool)}
	set.VisitAll(func(flag *pflag.Flag) { file.before[flag.Name] = flag.Changed })
	for i := range top.Entries {
		file.entry(&top.Entries[i])
	}
	if err := errors.Join(file.errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// readLimited reads a file that is no larger than a configuration may be, by a byte.
func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, configfile.MaxBytes+1))
}

// fileConfig sets flags from a configuration file.
type fileConfig struct {
	set    *pflag.FlagSet
	flags  *flags
	before map[string]bool // the flags that were set before, which the file doesn't change
	errs   []error
}

func (c *fileConfig) add(err error) { c.errs = append(c.errs, err) }

// entry sets the flag of a key.
func (c *fileConfig) entry(e *configfile.Entry) {
	flag := c.set.Lookup(e.Key)
	switch {
	case flag == nil || flag.Name == "help" || flag.Name == configFlag:
		c.add(e.Errorf("unknown key %q%s", e.Key, suggestion(e.Key, c.keys())))
		return
	case e.Key == "participant":
		c.participants(&e.Value)
		return
	}
	switch e.Value.Kind {
	case configfile.Plain:
		c.texts(e.Key, &e.Value, "")
	case configfile.List:
		if !repeatable(flag) {
			c.add(e.Value.Errorf("%s has one value, not a list", e.Key))
			return
		}
		c.texts(e.Key, &e.Value, "")
	case configfile.Mapping:
		if !named(flag) {
			c.add(e.Value.Errorf("%s has no keys of its own", e.Key))
			return
		}
		for i := range e.Value.Entries {
			c.texts(e.Key, &e.Value.Entries[i].Value, e.Value.Entries[i].Key+"=")
		}
	}
}

// texts sets a flag once for a plain value, and for each item of a list.
func (c *fileConfig) texts(flag string, v *configfile.Value, prefix string) {
	items := v.Items
	if v.Kind != configfile.List {
		items = []configfile.Value{*v}
	}
	for i := range items {
		switch {
		case items[i].Kind != configfile.Plain:
			c.add(items[i].Errorf("want a plain value"))
		case items[i].Text == "":
			c.add(items[i].Errorf("%s has no value: give it one, or leave it out", flag))
		default:
			c.value(flag, &items[i], prefix+items[i].Text)
		}
	}
}

// value sets a flag to a text that stands at a value of the file, unless the flag was set before.
func (c *fileConfig) value(flag string, at *configfile.Value, text string) {
	if c.before[flag] {
		return
	}
	if err := c.set.Lookup(flag).Value.Set(text); err != nil {
		c.add(at.Errorf("%s: %w", flag, err))
	}
}

// participants sets the participants: a list of texts as --participant has them, or of mappings.
func (c *fileConfig) participants(list *configfile.Value) {
	if list.Kind != configfile.List {
		c.add(list.Errorf("participant is a list: begin each one with a dash"))
		return
	}
	for i := range list.Items {
		switch item := &list.Items[i]; item.Kind {
		case configfile.Plain:
			c.texts("participant", item, "")
		case configfile.List:
			c.add(item.Errorf("want a participant: a text such as %q, or target and services",
				"acme.customer.v1.CustomerService=127.0.0.1:7101"))
		case configfile.Mapping:
			if !c.before["participant"] {
				c.participant(item)
			}
		}
	}
}

// participantKeys are the keys of a participant that is a mapping, with the flags that they set for its first service.
var participantKeys = map[string]string{
	"limit": "participant-limit", "answers": "answers", "commands": "commands", "contracts": "contracts",
	"identity": "participant-identity",
}

// participant sets one participant that is a mapping.
func (c *fileConfig) participant(v *configfile.Value) {
	var target string
	var services []string
	for i := range v.Entries {
		switch e := &v.Entries[i]; e.Key {
		case "target":
			target = e.Value.Text
		case "services":
			services = c.names(&e.Value)
		}
	}
	if target == "" || len(services) == 0 {
		c.add(v.Errorf("a participant needs a target, HOST:PORT, and its services"))
		return
	}
	c.value("participant", v, strings.Join(services, ",")+"="+target)
	for i := range v.Entries {
		e := &v.Entries[i]
		flag, known := participantKeys[e.Key]
		switch {
		case known:
			c.texts(flag, &e.Value, services[0]+"=")
		case e.Key == "broadcasts":
			for _, broadcast := range c.names(&e.Value) {
				c.value("broadcast", &e.Value, broadcast+"="+services[0])
			}
		case e.Key == "tls":
			c.participantTLS(&e.Value, services[0])
		case e.Key != "target" && e.Key != "services":
			c.add(e.Errorf("unknown key %q of a participant: want target, services, limit, answers, commands, "+
				"contracts, identity, broadcasts or tls", e.Key))
		}
	}
}

// participantTLS sets the TLS of one participant.
func (c *fileConfig) participantTLS(v *configfile.Value, service string) {
	if v.Kind != configfile.Mapping {
		c.add(v.Errorf("tls has keys of its own: ca, cert and key"))
		return
	}
	var params ParticipantTLS
	fields := map[string]*string{"ca": &params.CAFile, "cert": &params.CertFile, "key": &params.KeyFile}
	for i := range v.Entries {
		e := &v.Entries[i]
		field, known := fields[e.Key]
		switch {
		case !known:
			c.add(e.Errorf("unknown key %q of tls: want ca, cert or key", e.Key))
		case e.Value.Kind != configfile.Plain || e.Value.Text == "":
			c.add(e.Value.Errorf("want the path of a PEM file"))
		default:
			*field = e.Value.Text
		}
	}
	if (params.CertFile == "") != (params.KeyFile == "") {
		c.add(v.Errorf("tls has only one of cert and key: give both or neither"))
	}
	if c.flags.tlsOf == nil {
		c.flags.tlsOf = make(map[string]ParticipantTLS)
	}
	c.flags.tlsOf[service] = params
}

// names returns a plain value, or the items of a list.
func (c *fileConfig) names(v *configfile.Value) []string {
	items := v.Items
	if v.Kind == configfile.Plain {
		items = []configfile.Value{*v}
	}
	var names []string
	for i := range items {
		if items[i].Kind != configfile.Plain || items[i].Text == "" {
			c.add(items[i].Errorf("want a name"))
			continue
		}
		names = append(names, items[i].Text)
	}
	return names
}

// keys returns the names of all flags that a file may set.
func (c *fileConfig) keys() []string {
	var keys []string
	c.set.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" && flag.Name != configFlag {
			keys = append(keys, flag.Name)
		}
	})
	return keys
}

// repeatable returns whether a flag can be given several times.
func repeatable(flag *pflag.Flag) bool {
	switch flag.Value.(type) {
	case *participantFlag, *broadcastFlag, *answersFlag, *commandsFlag, *contractsFlag, *identityFlag, *limitFlag,
		*parentFlag, *tokenFlag:
		return true
	default:
		return false
	}
}

// named returns whether the values of a flag are NAME=VALUE.
func named(flag *pflag.Flag) bool {
	switch flag.Value.(type) {
	case *parentFlag, *tokenFlag:
		return false
	default:
		return repeatable(flag)
	}
}

// suggestion returns a hint that names the key that was probably meant, or what can be done otherwise.
func suggestion(key string, keys []string) string {
	fold := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	for _, known := range keys {
		if fold(known) == fold(key) || fold(known)+"s" == fold(key) || fold(known) == fold(key)+"s" {
			return fmt.Sprintf(": did you mean %q?", known)
		}
	}
	slices.Sort(keys)
	return ": the keys are the names of the flags: " + strings.Join(keys, ", ")
}
