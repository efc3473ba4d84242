package orchestrator

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

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
	config, err := tlsfiles.Server(tlsfiles.ServerParams{Cert: s.tlsCert, Key: s.tlsKey, ClientCA: s.tlsClientCA})
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
