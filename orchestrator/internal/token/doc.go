// Package token verifies JSON web tokens. A [Verifier] believes the tokens of some issuers, whose keys it gets by
// OpenID Connect discovery, or from a file.
package token
