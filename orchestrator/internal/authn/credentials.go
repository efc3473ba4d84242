package authn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// User is what a connection over a Unix socket proves: the user that runs the program at its other end, as the kernel
// says it. AuthInfo of such a connection is a User.
type User struct {
	credentials.CommonAuthInfo

	// UID is the user's number, if Known.
	UID uint32

	// Known says whether the kernel has told the user's number.
	Known bool
}

// AuthType returns "user".
func (User) AuthType() string { return "user" }

// Credentials returns the server side of connections: over TLS with the configuration, or plaintext if it is nil. Each
// handshake that fails is reported with the address of the caller. refused may be nil.
func Credentials(config *tls.Config, refused func(from net.Addr, cause error)) credentials.TransportCredentials {
	inner := credentials.TransportCredentials(plaintext{insecure.NewCredentials()})
	if config != nil {
		inner = credentials.NewTLS(config)
	}
	if refused == nil {
		return inner
	}
	return reporting{inner, refused}
}

// plaintext are connections without TLS. It asks the kernel whose they are where it can.
type plaintext struct {
	credentials.TransportCredentials
}

// ServerHandshake returns the connection and whose it is.
func (p plaintext) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	under := conn
	if wrapper, is := conn.(interface{ NetConn() net.Conn }); is {
		under = wrapper.NetConn()
	}
	socket, is := under.(*net.UnixConn)
	if !is {
		return p.TransportCredentials.ServerHandshake(conn)
	}
	user := User{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	user.UID, user.Known = uidOf(socket)
	return conn, user, nil
}

// Clone returns a copy.
func (p plaintext) Clone() credentials.TransportCredentials {
	return plaintext{p.TransportCredentials.Clone()}
}

// reporting reports the handshakes that fail.
type reporting struct {
	credentials.TransportCredentials

	refused func(from net.Addr, cause error)
}

// ServerHandshake makes the handshake, and reports it if it fails.
func (r reporting) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := r.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // what only connects, such as a probe, isn't refused
		r.refused(conn.RemoteAddr(), err)
	}
	return secured, info, err
}

// Clone returns a copy.
func (r reporting) Clone() credentials.TransportCredentials {
	return reporting{r.TransportCredentials.Clone(), r.refused}
}
