// Package tlsfiles makes TLS configurations from PEM files, and reads the files again when they change: a renewed certificate is used
// from the next handshake on, without a restart.
//
// A change is found by a file's time and size, looked at once per handshake. When the new files can't be used, for instance because one of a
// pair is written and the other isn't yet, the last good ones stay in use, a warning is logged, and the next handshake
// tries again. All configurations ask for TLS 1.2 at least and offer HTTP/2.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Server returns the configuration of a server with a certificate and its key. With clientCA not empty, clients must
// present a certificate that one of the authorities in that file issued. It fails when a file can't be used, and
// names it.
func Server(cert, key, clientCA string) (*tls.Config, error) {
	pair, err := newPair(cert, key)
	if err != nil {
		return nil, err
	}
	if pair == nil {
		return nil, errors.New("tls: a server needs a certificate and its key")
	}
	authorities, err := newAuthorities(clientCA)
	if err != nil {
		return nil, err
	}
	config := base()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(), nil }
	if authorities == nil {
		return config, nil
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = authorities.get()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := base()
		current.GetCertificate = config.GetCertificate
		current.ClientAuth = tls.RequireAndVerifyClientCert
		current.ClientCAs = authorities.get()
		return current, nil
	}
	return config, nil
}

// ClientParams says what a client trusts and who it is.
type ClientParams struct {
	// CA is the file with the authorities that the server's certificate must come from. Empty: the system's.
	CA string

	// Cert and Key are the client's own certificate and its key, for servers that ask for one. Both or neither.
	Cert, Key string

	// ServerName is the name that the server's certificate must be for. Empty: the host in the target. It is needed where
	// the target is an IP address and CA is set.
	ServerName string
}

// Client returns the configuration of a client. It fails when a file can't be used, and names it.
func Client(params ClientParams) (*tls.Config, error) {
	pair, err := newPair(params.Cert, params.Key)
	if err != nil {
		return nil, err
	}
	authorities, err := newAuthorities(params.CA)
	if err != nil {
		return nil, err
	}
	config := base()
	config.ServerName = params.ServerName
	if pair != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
	}
	if authorities != nil {
		// The standard check takes its authorities once and for all. So it is left out, and made here with those that stand in
		// the file now; nothing of it is skipped.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return verify(state, authorities.get(), params.ServerName)
		}
	}
	return config, nil
}

func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
}

// verify checks a server's certificates as crypto/tls does.
func verify(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	if name == "" {
		// What the client asked for. It is empty for an IP address, and a check without a name would accept any server that
		// the authorities know.
		name = state.ServerName
	}
	if name == "" {
		return errors.New("tls: the server's name can't be checked, because the target is an IP address: configure the server name that its certificate is for")
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("tls: the server presented no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: name})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// newPair watches a certificate and its key; nil when none is named.
func newPair(cert, key string) (*watched[*tls.Certificate], error) {
	if cert == "" && key == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, fmt.Errorf("tls: certificate %q and key %q: name both or neither", cert, key)
	}
	return watch([]string{cert, key}, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("tls: reading certificate %s and key %s: %w", cert, key, err)
		}
		return &pair, nil
	})
}

// newAuthorities watches a file of authorities; nil when none is named.
func newAuthorities(file string) (*watched[*x509.CertPool], error) {
	if file == "" {
		return nil, nil
	}
	return watch([]string{file}, func() (*x509.CertPool, error) {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("tls: reading certificate authorities: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: %s holds no certificate in PEM", file)
		}
		return pool, nil
	})
}

// watched is what files hold, read again when they change. It is safe for concurrent use.
type watched[T any] struct {
	files []string
	load  func() (T, error)

	mu    sync.Mutex
	marks []mark
	value T
}

// mark tells one version of a file from another.
type mark struct {
	modified time.Time
	size     int64
}

func watch[T any](files []string, load func() (T, error)) (*watched[T], error) {
	w := &watched[T]{files: files, load: load, marks: make([]mark, len(files))}
	w.look() // before the files are read: a change in between is found later
	value, err := load()
	if err != nil {
		return nil, err
	}
	w.value = value
	return w, nil
}

// look returns whether a file changed since the last look.
func (w *watched[T]) look() (changed bool) {
	for i, file := range w.files {
		info, err := os.Stat(file)
		if err != nil {
			continue // it is being replaced, or gone; what was read stays in use
		}
		if m := (mark{info.ModTime(), info.Size()}); m != w.marks[i] {
			w.marks[i], changed = m, true
		}
	}
	return changed
}

// get returns what the files hold.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.look() {
		return w.value
	}
	value, err := w.load()
	if err != nil {
		clear(w.marks) // try again next time
		slog.Warn("tls: changed files can't be used; those read before stay in use", "error", err)
		return w.value
	}
	w.value = value
	return value
}
