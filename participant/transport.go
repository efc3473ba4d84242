package participant

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// credentials returns how the server proves who it is, and whom it lets in.
func (o *Options) credentials() (credentials.TransportCredentials, error) {
	if o.TLSCertFile == "" {
		return insecure.NewCredentials(), nil
	}
	files := &tlsFiles{cert: o.TLSCertFile, key: o.TLSKeyFile, clientCA: o.TLSClientCAFile, log: o.Logger}
	if _, err := files.config(); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.config() },
	}), nil
}

// tlsFiles turns certificate files into a TLS configuration, anew whenever one of them has changed, so that a certificate
// is replaced without a restart.
type tlsFiles struct {
	cert, key, clientCA string
	log                 *slog.Logger

	mu      sync.Mutex
	current *tls.Config
	times   [3]time.Time
}

// config returns the configuration for one more connection. When the changed files are no good, the ones before stay in
// use, so that a half-written file turns nobody away.
func (f *tlsFiles) config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	times, err := f.modified()
	if err == nil && f.current != nil && times == f.times {
		return f.current, nil
	}
	var loaded *tls.Config
	if err == nil {
		loaded, err = f.load()
	}
	if err != nil {
		if f.current == nil {
			return nil, err
		}
		f.log.Warn("keeping the certificates in use, the changed ones are no good", "error", err)
		f.times = times
		return f.current, nil
	}
	f.current, f.times = loaded, times
	return loaded, nil
}

func (f *tlsFiles) modified() (times [3]time.Time, err error) {
	for i, name := range []string{f.cert, f.key, f.clientCA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return times, fmt.Errorf("reading TLS files: %w", err)
		}
		times[i] = info.ModTime()
	}
	return times, nil
}

func (f *tlsFiles) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("reading --tls-cert %s and --tls-key %s: %w", f.cert, f.key, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{pair},
	}
	if f.clientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("reading --tls-client-ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading --tls-client-ca %s: no certificate in it; want PEM", f.clientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
