// Package sagacode gives the orchestrator the code in a saga.Definition. Package saga hides that code from its users,
// because its type is internal.
package sagacode

import "github.com/treatyhq/treaty/orchestrator/internal/machine"

// Of returns the code of a saga.Definition. It returns nil for a definition that was not made by saga.Register, and for
// any other value. Package saga sets Of when it is initialized.
var Of func(definition any) machine.Code
