package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// handshakeInterval is the shortest time between two log lines about refused handshakes with the same cause.
const handshakeInterval = time.Minute

// handshakes logs refused handshakes: one line for each cause in a while, so that nobody fills the log. It is safe for
// concurrent use.
type handshakes struct {
	logger *slog.Logger

	mu    sync.Mutex
	known map[string]*handshakeCause
}

// handshakeCause is what is known of a cause.
type handshakeCause struct {
	logged time.Time
	since  int // handshakes that were refused since then
}

// refused takes note of a refused handshake.
func (h *handshakes) refused(from net.Addr, err error) {
	cause := handshakeCauseOf(err)
	if cause == "" {
		return
	}
	times, due := h.due(cause, time.Now())
	if !due {
		return
	}
	host, _, splitErr := net.SplitHostPort(from.String())
	if splitErr != nil {
		host = from.String()
	}
	attributes := []any{"from", host, "cause", cause, "error", err}
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) && len(invalid.UnverifiedCertificates) > 0 {
		attributes = append(attributes, "certificate", invalid.UnverifiedCertificates[0].Subject.String(),
			"issuer", invalid.UnverifiedCertificates[0].Issuer.String())
	}
	if times > 0 {
		attributes = append(attributes, "others", times)
	}
	h.logger.Warn("a connection was refused", attributes...)
}

// due returns whether the log is to have a line about a cause, and how many handshakes it had none about.
func (h *handshakes) due(cause string, now time.Time) (times int, due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.known[cause]
	if known == nil {
		known = new(handshakeCause)
		if h.known == nil {
			h.known = make(map[string]*handshakeCause)
		}
		h.known[cause] = known
	}
	if !known.logged.IsZero() && now.Sub(known.logged) < handshakeInterval {
		known.since++
		return 0, false
	}
	times = known.since
	known.logged, known.since = now, 0
	return times, true
}

// handshakeCauseOf says why a handshake was refused, as a sentence whose subject is the client. It is empty if the
// client only went away, as those do that check whether the port is open.
func handshakeCauseOf(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && strings.Contains(invalid.Detail, "is before"):
		return "its certificate isn't valid yet"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "its certificate's extended key usage isn't that of a client"
	case errors.As(err, &authority):
		return "its certificate is of an authority that isn't trusted"
	case errors.As(err, &invalid):
		return "its certificate isn't valid"
	case errors.As(err, &record):
		return "it uses plaintext, and this server TLS"
	case strings.Contains(err.Error(), "client didn't provide a certificate"):
		return "it has no certificate"
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return "it refuses this server's certificate"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		return ""
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it didn't finish the handshake in time"
	default:
		return "the handshake failed"
	}
}
