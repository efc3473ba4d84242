package orchestrator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/treatyhq/treaty/internal/tlsfiles"
)

// serverTLS returns how the API is served, or nil for plaintext.
func (s *settings) serverTLS() (*tls.Config, error) {
	switch {
	case s.tlsCert == "" && s.tlsKey == "" && s.tlsClientCA == "":
		return nil, nil
	case s.tlsCert == "" || s.tlsKey == "":
		return nil, errors.New("TLS for the API needs both a certificate and its key")
	}
	config, err := tlsfiles.Server(tlsfiles.ServerParams{
		Cert: s.tlsCert, Key: s.tlsKey, ClientCA: s.tlsClientCA, Logger: s.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up TLS for the API: %w", err)
	}
	return config, nil
}

// transport returns the name of the API's transport, as in Ready.
func (s *settings) transport() string {
	switch {
	case s.tlsCert == "":
		return "plaintext"
	case s.tlsClientCA == "":
		return "TLS"
	default:
		return "mutual TLS"
	}
}

// checkTransport refuses plaintext on an address that other machines can reach.
func (s *settings) checkTransport(listener net.Listener) error {
	if s.tlsCert != "" || s.insecure || local(listener.Addr()) {
		return nil
	}
	return fmt.Errorf("serving on %s: other machines can reach it, and it has no TLS: "+
		"give it a certificate and its key, listen on 127.0.0.1, or allow plaintext explicitly (insecure)",
		listener.Addr())
}

// warnAboutInsecure logs what insecure doesn't do beside a certificate.
func (s *settings) warnAboutInsecure(logger *slog.Logger) {
	if !s.insecure || s.tlsCert == "" {
		return
	}
	effect := "it allows plaintext to participants on other machines"
	if s.participantTLS != nil {
		effect = "it has no effect on participants either, which use TLS"
	}
	logger.Warn("the API is served over TLS, since it has a certificate, although plaintext is allowed (insecure): "+
		"leave out what isn't wanted", "insecure", effect)
}

// socketPrefix is the prefix of the address of a Unix socket.
const socketPrefix = "unix:"

// addressFrom returns the address of a listener, as callers write it.
func addressFrom(listener net.Listener) string {
	if address, is := listener.Addr().(*net.UnixAddr); is {
		return socketPrefix + address.Name
	}
	return listener.Addr().String()
}

// listen listens on "host:port", or on a Unix socket as "unix:path".
func listen(ctx context.Context, address string) (net.Listener, error) {
	path, socket := strings.CutPrefix(address, socketPrefix)
	if !socket {
		return new(net.ListenConfig).Listen(ctx, "tcp", address)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of the socket has %d bytes, and a system may allow no more than %d: choose a "+
			"shorter one", len(path), maxSocketPath)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(ctx, path) && os.Remove(path) == nil {
		listener, err = new(net.ListenConfig).Listen(ctx, "unix", path)
	}
	if err != nil || strings.HasPrefix(path, "@") { // a socket that begins so has no file
		return listener, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("keeping others from the socket: %w", err)
	}
	return listener, nil
}

const (
	// maxSocketPath is the longest path of a socket, in bytes, that all systems allow.
	maxSocketPath = 103

	// socketMode lets only the user of this process connect to a socket.
	socketMode = 0o600
)

// abandoned returns whether nobody listens on a Unix socket any more: its process was killed.
func abandoned(ctx context.Context, path string) bool {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// local returns whether only this machine can reach an address.
func local(address net.Addr) bool {
	switch address := address.(type) {
	case *net.TCPAddr:
		return address.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}
