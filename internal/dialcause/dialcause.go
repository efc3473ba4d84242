// Package dialcause names why a connection to a gRPC server failed. gRPC and package crypto/tls report the cause as
// text only, and several layers wrap it.
package dialcause

import "strings"

// Cause is why a connection failed.
type Cause int

// The causes of failed connections.
const (
	// Other is every other cause, such as a refused connection. The text itself says enough.
	Other Cause = iota

	// NoDescriptors means that this process has used up its file descriptors.
	NoDescriptors

	// Plaintext means that the server uses plaintext, and the client TLS.
	Plaintext

	// ClientCertificateRequired means that the server requires a client certificate.
	ClientCertificateRequired

	// ClientCertificateExpired means that the client certificate has expired or isn't valid yet.
	ClientCertificateExpired

	// ClientCertificateUntrusted means that the server doesn't trust the client certificate.
	ClientCertificateUntrusted

	// Expired means that the server's certificate has expired or isn't valid yet.
	Expired

	// UnknownAuthority means that the authority of the server's certificate isn't trusted.
	UnknownAuthority

	// OtherName means that the server's certificate is for another name.
	OtherName

	// OtherUsage means that the server's certificate isn't one for servers.
	OtherUsage

	// NoPreface means that the server closed the connection before it said anything, as one does that requires TLS.
	NoPreface
)

// texts are parts of error messages. The first one that is found counts.
var texts = []struct {
	part  string
	cause Cause
}{
	{"too many open files", NoDescriptors},
	{"first record does not look like a TLS handshake", Plaintext},
	{"tls: certificate required", ClientCertificateRequired},
	{"remote error: tls: expired certificate", ClientCertificateExpired},
	{"remote error: tls: unknown certificate authority", ClientCertificateUntrusted},
	{"remote error: tls: bad certificate", ClientCertificateUntrusted},
	{"certificate has expired or is not yet valid", Expired},
	{"certificate signed by unknown authority", UnknownAuthority},
	{"certificate is valid for", OtherName},
	{"certificate is not valid for any names", OtherName},
	{"doesn't contain any IP SANs", OtherName},
	{"certificate specifies an incompatible key usage", OtherUsage},
	{"error reading server preface", NoPreface},
	{"write: broken pipe", NoPreface},
}

// Of returns the cause in an error message.
func Of(message string) Cause {
	for _, text := range texts {
		if strings.Contains(message, text.part) {
			return text.cause
		}
	}
	return Other
}

// String says what the cause means, as a sentence whose subject is the server, e.g. "uses plaintext, and this side
// TLS". It is empty for Other.
func (c Cause) String() string {
	switch c {
	case NoDescriptors:
		return "can't be dialled, because this process has used up its file descriptors"
	case Plaintext:
		return "uses plaintext, and this side TLS"
	case ClientCertificateRequired:
		return "requires a client certificate"
	case ClientCertificateExpired:
		return "refuses the client certificate, which has expired or isn't valid yet"
	case ClientCertificateUntrusted:
		return "doesn't trust the client certificate"
	case Expired:
		return "has a certificate that has expired or isn't valid yet"
	case UnknownAuthority:
		return "has a certificate of an authority that isn't trusted"
	case OtherName:
		return "has a certificate for another name"
	case OtherUsage:
		return "has a certificate whose extended key usage isn't that of a server"
	case NoPreface:
		return "closes the connection at once: it may require TLS, not trust the client certificate, or not be a " +
			"gRPC server"
	default:
		return ""
	}
}
