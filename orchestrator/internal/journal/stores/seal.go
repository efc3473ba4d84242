package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
)

// sealedStore is an open store whose contents are sealed.
type sealedStore struct {
	*sealed.Store
	owned
}

// owned is what the owner of an open store needs besides its contents.
type owned interface {
	Handle
	Gone() <-chan struct{}
	Failed() <-chan struct{}
	Size() journal.Size
}

// Seal makes an open store one that seals what it keeps. Without keys, it is the store itself, and the error is
// journal.ErrKey if the store is sealed. The caller closes the store after an error.
func Seal(ctx context.Context, store Store, keys *sealed.Keys) (Store, error) {
	if keys == nil {
		return store, needsNoKeys(ctx, store)
	}
	return sealedStore{sealed.New(store, keys), store}, nil
}

// sealedReader is a store whose contents are sealed and that was opened for reading.
type sealedReader struct {
	*sealed.Reader
	Handle
}

// SealReader is Seal for a store that was opened for reading.
func SealReader(ctx context.Context, store Reader, keys *sealed.Keys) (Reader, error) {
	if keys == nil {
		return store, needsNoKeys(ctx, store)
	}
	return sealedReader{sealed.NewReader(store, keys), store}, nil
}

func needsNoKeys(ctx context.Context, store Reader) error {
	err := sealed.CheckPlain(ctx, store)
	switch {
	case errors.Is(err, journal.ErrKey):
		return fmt.Errorf("open the store %s: %w: name the file of its keys, with --store-keys", store.Name(), err)
	case errors.Is(err, journal.ErrCorrupt):
		return nil // what is damaged will be found when it is needed
	}
	return err
}
