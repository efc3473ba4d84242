package server

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
)

// watchedListener is a listener that tells when a connection has closed.
type watchedListener struct {
	net.Listener

	closed  func(connection string)
	sockets atomic.Int64 // the connections to a Unix socket so far
}

// Accept waits for the next connection.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	watched := &watchedConn{Conn: conn, remote: conn.RemoteAddr()}
	if _, is := watched.remote.(*net.UnixAddr); is {
		// The clients of a socket have no address of their own.
		watched.remote = &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%d", l.sockets.Add(1))}
	}
	watched.tell = sync.OnceFunc(func() { l.closed(watched.remote.String()) })
	return watched, nil
}

// watchedConn is a connection that tells when it has closed. Its remote address is its own.
type watchedConn struct {
	net.Conn

	remote net.Addr
	tell   func()
	expiry atomic.Pointer[time.Timer]
}

// expire closes the connection at a time.
func (c *watchedConn) expire(at time.Time) {
	c.expiry.Store(time.AfterFunc(time.Until(at), func() { _ = c.Close() }))
}

// RemoteAddr returns the address of the peer, which no other open connection of the listener has.
func (c *watchedConn) RemoteAddr() net.Addr { return c.remote }

// Close closes the connection.
func (c *watchedConn) Close() error {
	defer c.tell()
	if expiry := c.expiry.Load(); expiry != nil {
		expiry.Stop()
	}
	return c.Conn.Close()
}

// NetConn returns the connection that this one wraps.
func (c *watchedConn) NetConn() net.Conn { return c.Conn }

// SyscallConn returns the connection to the operating system, for those who set options of a socket.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	conn, is := c.Conn.(syscall.Conn)
	if !is {
		return nil, fmt.Errorf("a %T isn't a connection of the operating system", c.Conn)
	}
	return conn.SyscallConn()
}

// expiring closes a connection when the certificate of its client, or one of its authorities, expires.
type expiring struct {
	credentials.TransportCredentials
}

// ServerHandshake makes the handshake.
func (e expiring) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := e.TransportCredentials.ServerHandshake(conn)
	watched, is := conn.(*watchedConn)
	secure, verified := info.(credentials.TLSInfo)
	if err != nil || !is || !verified {
		return secured, info, err
	}
	var last time.Time // when the last of the chains expires
	for _, chain := range secure.State.VerifiedChains {
		first := chain[0].NotAfter
		for _, certificate := range chain {
			if certificate.NotAfter.Before(first) {
				first = certificate.NotAfter
			}
		}
		if first.After(last) {
			last = first
		}
	}
	if !last.IsZero() {
		watched.expire(last)
	}
	return secured, info, nil
}

// Clone returns a copy.
func (e expiring) Clone() credentials.TransportCredentials {
	return expiring{e.TransportCredentials.Clone()}
}
