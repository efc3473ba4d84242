package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
)

// WithStoreKeys sets the file of the keys with which payloads are sealed in the store. Only its owner may be able to
// read it. It is read again when it has changed. A store that has once had keys needs them for good: it isn't served
// without. A saga that needs a key that is missing is suspended (KEY_MISSING). The program's commands "keys new" and
// "keys rotate" write such a file. Default: none, payloads are stored as they are.
func WithStoreKeys(file string) Option { return func(s *settings) { s.storeKeys = file } }

// keys returns the keys of the store, or nil if there are none.
func (o *Orchestrator) keys() (*sealed.Keys, error) {
	if o.settings.storeKeys == "" {
		return nil, nil
	}
	return sealed.OpenKeys(o.settings.storeKeys, o.logger)
}

// sealed makes the store that was opened one that seals payloads, if there are keys.
func (o *Orchestrator) sealed(ctx context.Context, store stores.Store) (stores.Store, error) {
	keys, err := o.keys()
	if err != nil {
		return store, err
	}
	return stores.Seal(ctx, store, keys)
}

// keysCommand returns the subcommands that write the file of the store's keys.
func (p program) keysCommand(f *flags) *cobra.Command {
	keys := &cobra.Command{
		Use: "keys", Short: "Write the keys with which payloads are sealed in the store",
		Long: "Writes the file of keys that --store-keys names. Keep a copy of it apart from the store's backups: " +
			"without\nits keys, a store and its backups are worthless.",
		Args: noArguments,
	}
	command := func(use, short, long, done string, write func(file string) (string, error)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Args: noArguments,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := p.configure(cmd, f); err != nil {
					return err
				}
				if f.storeKeys == "" {
					return usageError{errors.New("--store-keys is missing: name the file of keys")}
				}
				id, err := write(f.storeKeys)
				if err != nil {
					return err
				}
				_, _ = fmt.Fprintf(p.stdout, done+"\n", f.storeKeys, id)
				return nil
			},
		}
	}
	keys.AddCommand(
		command("new", "Write a new file with one key",
			"Writes a new file with one key, which only its owner can read. It never overwrites a file.",
			"%s has the new key %s", sealed.CreateKeys),
		command("rotate", "Add a key and make it the primary one",
			"Adds a key to the file and makes it the primary one, with which everything is sealed from then on. A\n"+
				"running orchestrator notices within a second. The other keys stay, to read what they have sealed.",
			"%s has the new primary key %s; keep the others for as long as something is sealed with them",
			sealed.RotateKeys),
	)
	return keys
}
