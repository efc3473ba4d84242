package problem

import "strings"

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
	p.Message = "can't reach an orchestrator at " + e.Address + ": " + cause
	if about.Doing != "" {
		p.Message = about.Doing + ": " + p.Message
	}
	// A TLS 1.3 server refuses a client's certificate after the client believes that the handshake is complete. The
	// client then often sees no more than a broken pipe.
	askedFor := e.CertificateAsked && !strings.Contains(message, "Error while dialing")
	switch {
	case strings.Contains(message, "first record does not look like a TLS handshake"):
		p.Hints = append(p.Hints,
			"It uses plaintext. Leave out the --tls flags, and add --insecure if it isn't on loopback.")
	case strings.Contains(message, "certificate required"), strings.Contains(message, "bad certificate"),
		askedFor && e.CertFile == "":
		p.Hints = append(p.Hints, "It requires a client certificate that it trusts. Set --tls-cert and --tls-key.")
	case strings.Contains(message, "certificate is valid for"),
		strings.Contains(message, "certificate is not valid for any names"),
		strings.Contains(message, "doesn't contain any IP SANs"):
		p.Hints = append(p.Hints, "Its certificate is for another name. Set that name with --tls-server-name.")
	case strings.Contains(message, "x509: "):
		p.Hints = append(p.Hints, "Its certificate isn't trusted. Set the authority that signed it with --tls-ca.")
	case askedFor:
		p.Hints = append(p.Hints, "It may not trust the client certificate of --tls-cert, or it was stopped.")
	case strings.Contains(message, "error reading server preface"):
		p.Hints = append(p.Hints, "It may require TLS (--tls-ca FILE), or it may not be an orchestrator.")
	default:
		p.Hints = append(p.Hints, "Start the orchestrator, or set another address with --address or TREATY_ADDRESS.")
	}
	if about.Start && !strings.Contains(message, "Error while dialing") {
		p.Hints = append(p.Hints, startHint(about))
	}
}
