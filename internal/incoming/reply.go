package incoming

import "context"

type maxReplyKey struct{}

// WithMaxReplyBytes returns a context for the handler of a call whose server sends no larger replies.
func WithMaxReplyBytes(ctx context.Context, limit int) context.Context {
	return context.WithValue(ctx, maxReplyKey{}, limit)
}

// MaxReplyBytes returns the size of the largest reply that the server of a call sends, or 0 if it isn't known.
func MaxReplyBytes(ctx context.Context) int {
	limit, _ := ctx.Value(maxReplyKey{}).(int)
	return limit
}
