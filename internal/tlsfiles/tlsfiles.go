// Package tlsfiles makes TLS configurations from PEM files and reloads the files when they change. A renewed
// certificate is used from the next handshake on, without a restart.
//
// Every handshake checks the modification time and size of each file. If the new files are invalid, for example because
// only one file of a pair has been written, the last valid ones stay in use, a warning is logged, and the next
// handshake tries again. All configurations require TLS 1.2 or newer and offer HTTP/2.
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

// ServerParams name a server's files.
type ServerParams struct {
	// Cert and Key are the server's certificate chain and private key. Both are required.
	Cert, Key string

	// ClientCA holds the authorities that may issue client certificates. If set, clients must present a certificate.
	ClientCA string

	// Logger receives the warnings. Default slog.Default.
	Logger *slog.Logger
}

// Server returns a server's configuration. If a file is missing or invalid, the error names it.
func Server(params ServerParams) (*tls.Config, error) {
	pair, err := newPair(params.Cert, params.Key, params.Logger)
	if err != nil {
		return nil, err
	}
	if pair == nil {
		return nil, errors.New("tls: a server needs a certificate and its key")
	}
	authorities, err := newAuthorities(params.ClientCA, params.Logger)
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

// ClientParams say which servers a client trusts and which certificate it presents.
type ClientParams struct {
	// CA holds the authorities that may issue server certificates. Default: the system's authorities.
	CA string

	// Cert and Key are the client's own certificate and private key, for servers that require one. Set both or neither.
	Cert, Key string

	// ServerName is the name that the server's certificate must be valid for. Default: the host of the target. It is
	// required if the target is an IP address and CA is set.
	ServerName string

	// Logger receives the warnings. Default slog.Default.
	Logger *slog.Logger
}

// Client returns a client's configuration. If a file is missing or invalid, the error names it.
func Client(params ClientParams) (*tls.Config, error) {
	pair, err := newPair(params.Cert, params.Key, params.Logger)
	if err != nil {
		return nil, err
	}
	authorities, err := newAuthorities(params.CA, params.Logger)
	if err != nil {
		return nil, err
	}
	config := base()
	config.ServerName = params.ServerName
	if pair != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pair.get(),
				nil
		}
	}
	if authorities != nil {
		// The standard verification can't reload its authorities, so it is turned off and VerifyConnection does all of
		// it with the authorities that the file holds now.
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

// verify verifies a server's certificate chain as crypto/tls does.
func verify(state tls.ConnectionState, roots *x509.CertPool, name string) error {
	if name == "" {
		// The name that the client asked for. It is empty for an IP address. Without a name, a certificate for any
		// other server of the same authority would pass.
		name = state.ServerName
	}
	if name == "" {
		return errors.New("tls: can't verify the server's name, because the target is an IP address: " +
			"configure the server name that its certificate is valid for")
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("tls: the server presented no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: name}
	_, err := state.PeerCertificates[0].Verify(options)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// newPair watches a certificate and its key. It returns nil if neither is named.
func newPair(cert, key string, log *slog.Logger) (*watched[*tls.Certificate], error) {
	if cert == "" && key == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, fmt.Errorf("tls: certificate %q and key %q: name both or neither", cert, key)
	}
	return watch([]string{cert, key}, log, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("tls: reading certificate %s and key %s: %w", cert, key, err)
		}
		return &pair, nil
	})
}

// newAuthorities watches a file of certificate authorities. It returns nil if none is named.
func newAuthorities(file string, log *slog.Logger) (*watched[*x509.CertPool], error) {
	if file == "" {
		return nil, nil
	}
	return watch([]string{file}, log, func() (*x509.CertPool, error) {
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

// watched is a value loaded from files, and reloaded when they change. It is safe for concurrent use.
type watched[T any] struct {
	files []string
	log   *slog.Logger
	load  func() (T, error)

	mu       sync.Mutex
	versions []version
	value    T
	warned   string // the error of the last warning, until the files are valid again
}

// version distinguishes one version of a file from another.
type version struct {
	modified time.Time
	size     int64
}

func watch[T any](files []string, log *slog.Logger, load func() (T, error)) (*watched[T], error) {
	if log == nil {
		log = slog.Default()
	}
	w := &watched[T]{files: files, log: log, load: load, versions: make([]version, len(files))}
	w.changed() // Before the files are read, so a change in between is found later.
	value, err := load()
	if err != nil {
		return nil, err
	}
	w.value = value
	return w, nil
}

// changed reports whether a file has changed since the last call.
func (w *watched[T]) changed() (changed bool) {
	for i, file := range w.files {
		info, err := os.Stat(file)
		if err != nil {
			continue // The file is being replaced or was deleted. The loaded value stays in use.
		}
		if v := (version{info.ModTime(), info.Size()}); v != w.versions[i] {
			w.versions[i], changed = v, true
		}
	}
	return changed
}

// get returns the current value.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.changed() {
		return w.value
	}
	value, err := w.load()
	if err != nil {
		clear(w.versions) // Try again at the next call, but warn once.
		if text := err.Error(); text != w.warned {
			w.warned = text
			w.log.Warn("tls: changed files are invalid; keeping the ones in use", "error", err)
		}
		return w.value
	}
	w.value, w.warned = value, ""
	return value
}
