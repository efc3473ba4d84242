package problem

import (
	"strings"

	"github.com/treatyhq/treaty/internal/dialcause"
)

// adviseUnavailable says why an orchestrator can't be reached. gRPC reports the cause as text only.
func (e Explainer) adviseUnavailable(p *Error, message string, about Subject) {
	cause := message
	// gRPC wraps the cause: connection error: desc = "transport: Error while dialing: dial tcp ...: connection
	// refused".
	for _, wrapper := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		if _, after, ok := strings.Cut(cause, wrapper); ok {
			cause = strings.TrimSuffix(after, `"`)
		}
	}
	found := dialcause.Of(message)
	p.Message = "can't reach an orchestrator at " + e.Address + ": " + cause
	if found != dialcause.Other {
		p.Message = e.Address + " " + found.String() + ": " + cause
	}
	if about.Doing != "" {
		p.Message = about.Doing + ": " + p.Message
	}
	p.Hints = append(p.Hints, e.connectionHint(found, message))
	if about.Start && !strings.Contains(message, "Error while dialing") {
		p.Hints = append(p.Hints, startHint(about))
	}
}

// connectionHint returns what to do about a connection that failed.
func (e Explainer) connectionHint(cause dialcause.Cause, message string) string {
	// A TLS 1.3 server refuses a client's certificate after the client believes that the handshake is complete. The
	// client then often sees no more than a broken pipe.
	askedFor := e.CertificateAsked && !strings.Contains(message, "Error while dialing")
	switch {
	case cause == dialcause.Plaintext:
		return "Leave out the --tls flags, and add --insecure if it isn't on loopback."
	case cause == dialcause.ClientCertificateRequired, cause == dialcause.ClientCertificateUntrusted,
		askedFor && e.CertFile == "":
		return "It requires a client certificate that it trusts. Set --tls-cert and --tls-key."
	case cause == dialcause.ClientCertificateExpired:
		return "Renew the client certificate of --tls-cert."
	case cause == dialcause.OtherName:
		return "Its certificate is for another name. Set that name with --tls-server-name."
	case cause == dialcause.OtherUsage:
		return "Give it a certificate with the extended key usage serverAuth."
	case cause == dialcause.Expired:
		return "Renew its certificate, or correct this machine's clock."
	case cause == dialcause.UnknownAuthority, strings.Contains(message, "x509: "):
		return "Its certificate isn't trusted. Set the authority that signed it with --tls-ca."
	case cause == dialcause.NoDescriptors:
		return "Raise the limit of open files (ulimit -n)."
	case askedFor:
		return "It may not trust the client certificate of --tls-cert, or it was stopped."
	case cause == dialcause.NoPreface:
		return "If it requires TLS, set --tls-ca FILE, or --tls."
	default:
		return "Start the orchestrator, or set another address with --address or TREATY_ADDRESS."
	}
}
