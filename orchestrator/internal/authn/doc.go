// Package authn finds out who makes a call: from the client certificate, from the user of a Unix socket, or from a
// bearer token. [Credentials] collects what a connection proves, and an [Authenticator] what a call proves.
package authn
