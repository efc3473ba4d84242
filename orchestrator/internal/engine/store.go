package engine

import "github.com/treatyhq/treaty/orchestrator/internal/journal"

// Store is what the engine needs of journal.Store.
type Store = journal.Store
