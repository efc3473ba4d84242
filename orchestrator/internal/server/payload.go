package server

import "github.com/treatyhq/treaty/orchestrator/internal/rawcodec"

// payload is a saga's request or reply, serialized. It is never parsed between the client and the engine.
type payload = rawcodec.Message
