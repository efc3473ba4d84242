package authn

import (
	"net"
	"syscall"
)

// uidOf returns the user at the other end of a Unix socket, and whether the kernel says it.
func uidOf(socket *net.UnixConn) (uid uint32, known bool) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	var user *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		user, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, false
	}
	if err != nil || user == nil {
		return 0, false
	}
	return user.Uid, true
}
