package caller

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/peer"
)

// Any is the identity of every caller.
const Any = "*"

// Believed returns whether a call counts as that of an orchestrator, and who made it, for people. With identities, the
// callers are believed whose verified client certificate has one of them, or everybody if [Any] is among them. Without,
// everybody is believed who has a verified client certificate or is on this machine.
func Believed(ctx context.Context, identities []string) (who string, believed bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "a caller in this process", true // not a network call
	}
	certificate := Certificate(p)
	if len(identities) > 0 {
		return describe(p, certificate), slices.Contains(identities, Any) || Has(certificate, identities)
	}
	return describe(p, certificate), certificate != nil || isLocal(p.Addr)
}

// isLocal reports whether an address is on this machine: that of a loopback interface, of a Unix socket, or of a
// connection in memory. Behind net/http, the address of a network isn't a [net.TCPAddr].
func isLocal(address net.Addr) bool {
	if address == nil {
		return false
	}
	if _, ok := address.(*net.UnixAddr); ok {
		return true
	}
	switch address.Network() {
	case "pipe", "bufconn":
		return true
	}
	at, err := netip.ParseAddrPort(address.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

func describe(p *peer.Peer, certificate *x509.Certificate) string {
	if certificate != nil {
		return cmp.Or(strings.Join(Identities(certificate), ", "), certificate.Subject.String(),
			"certificate "+certificate.SerialNumber.Text(16))
	}
	if host, _, err := net.SplitHostPort(fmt.Sprint(p.Addr)); err == nil {
		return host
	}
	return fmt.Sprint(p.Addr)
}
