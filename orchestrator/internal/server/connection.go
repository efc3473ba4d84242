package server

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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
}

// RemoteAddr returns the address of the peer, which no other open connection of the listener has.
func (c *watchedConn) RemoteAddr() net.Addr { return c.remote }

// Close closes the connection.
func (c *watchedConn) Close() error {
	defer c.tell()
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
