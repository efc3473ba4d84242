package connection

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
)

// maxTokenBytes is how long a token may be. An orchestrator reads no longer one.
const maxTokenBytes = 8 << 10

// tokenFile sends the token in a file with each call. It reads the file for each of them, so that a token that was
// renewed counts.
type tokenFile struct {
	path string

	// local allows plaintext, to an address on this machine.
	local bool
}

// newTokenFile checks that a token can be read, and that it may be sent.
func (o Options) newTokenFile() (tokenFile, error) {
	local, err := o.Local()
	if err != nil {
		return tokenFile{}, err
	}
	if o.Insecure && !local {
		return tokenFile{}, problem.Usage("--token-file can't be combined with --insecure: anyone on the network path "+
			"could take the token and use it", "Set --tls-ca FILE, or --tls to trust the system's authorities.")
	}
	t := tokenFile{path: o.TokenFile, local: local}
	if _, err := t.read(); err != nil {
		return tokenFile{}, problem.Usage(err.Error())
	}
	return t, nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := t.read()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t tokenFile) RequireTransportSecurity() bool { return !t.local }

// read returns the token. The error never contains it.
func (t tokenFile) read() (string, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return "", fmt.Errorf("reading --token-file: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+3))
	if err != nil {
		return "", fmt.Errorf("reading --token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	switch {
	case token == "":
		return "", fmt.Errorf("--token-file %s is empty", t.path)
	case len(token) > maxTokenBytes:
		return "", fmt.Errorf("--token-file %s has more than %d bytes, so it has no token", t.path, maxTokenBytes)
	case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", fmt.Errorf("--token-file %s has more than a token: want the token alone, without Bearer", t.path)
	}
	return token, nil
}
