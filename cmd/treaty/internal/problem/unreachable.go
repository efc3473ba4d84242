package problem

import "strings"

// adviseUnavailable tells apart why an orchestrator can't be reached.
func (e Explainer) adviseUnavailable(p *Problem, message string, about Subject) {
	address := e.Address
	cause := message
	// gRPC wraps the cause: connection error: desc = "transport: Error while dialing: dial tcp ...: connection refused".
	for _, wrapper := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: "} {
		if _, after, ok := strings.Cut(cause, wrapper); ok {
			cause = strings.TrimSuffix(after, `"`)
		}
	}
	p.Message = "no orchestrator can be reached at " + address + ": " + cause
	if about.Doing != "" {
		p.Message = about.Doing + ": " + p.Message
	}
	// A server of TLS 1.3 turns a client down when that takes the connection to be open already, and often only a broken pipe is seen.
	askedFor := e.CertificateAsked && !strings.Contains(message, "Error while dialing")
	switch {
	case strings.Contains(message, "first record does not look like a TLS handshake"):
		p.Hints = append(p.Hints, "It speaks plaintext. Leave the --tls flags out; beyond loopback that takes --insecure.")
	case strings.Contains(message, "certificate required"), strings.Contains(message, "bad certificate"), askedFor && e.CertFile == "":
		p.Hints = append(p.Hints, "It asks for a client certificate that it trusts: --tls-cert and --tls-key.")
	case strings.Contains(message, "certificate is valid for"), strings.Contains(message, "certificate is not valid for any names"), strings.Contains(message, "doesn't contain any IP SANs"):
		p.Hints = append(p.Hints, "Its certificate has another name; give the right one with --tls-server-name.")
	case strings.Contains(message, "x509: "):
		p.Hints = append(p.Hints, "Its certificate isn't trusted; name the authority that signed it with --tls-ca.")
	case askedFor:
		p.Hints = append(p.Hints, "It asks for a client certificate, and may not trust the one of --tls-cert; or it was stopped.")
	case strings.Contains(message, "error reading server preface"):
		p.Hints = append(p.Hints, "It may want TLS (--tls-ca FILE), or it may not be an orchestrator.")
	default:
		p.Hints = append(p.Hints, "Start the orchestrator, or name another address with --address or TREATY_ADDRESS.")
	}
	if about.Start && !strings.Contains(message, "Error while dialing") {
		p.Hints = append(p.Hints, "If the call got through, starting again with the same --request-id attaches to the saga.")
	}
}
