package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// procfs is where Linux tells of its processes.
const procfs = "/proc"

// listening is the state of a socket that listens, in /proc/net/tcp.
const listening = "0A"

// holder says which process listens on a port, such as "postgres (process 4711)". It returns "another process" if the
// system doesn't tell: elsewhere than on Linux, and of other users' processes.
func holder(proc, port string) string {
	const unknown = "another process"
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return unknown
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		for inode := range listeners(filepath.Join(proc, table), uint16(number)) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return unknown
	}
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || !sockets[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return unknown
}

// listeners returns the inodes of the sockets that listen on a port, from a table such as /proc/net/tcp.
func listeners(table string, port uint16) map[string]bool {
	file, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	inodes := make(map[string]bool)
	suffix := fmt.Sprintf(":%04X", port)
	for rows := bufio.NewScanner(file); rows.Scan(); {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		row := strings.Fields(rows.Text())
		if len(row) > 9 && strings.HasSuffix(row[1], suffix) && row[3] == listening {
			inodes[row[9]] = true
		}
	}
	return inodes
}

// isTaken reports whether something listens on a host:port.
func isTaken(ctx context.Context, address string) bool {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err == nil {
		_ = listener.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// Programs say that a port is taken in these ways, in Go, C, Node.js, Python and Java; most of them name the port.
var (
	inUse   = regexp.MustCompile(`(?i)\b(EADDRINUSE|(address|port)\b.{0,20}\bin use)\b`)
	ofPlace = regexp.MustCompile(`(localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]*\]|):\d{2,5}\b`)
)

// takenPlace returns the host:port that the last lines of a process say is taken, if it is. It returns "" if they say
// nothing of the kind.
func takenPlace(ctx context.Context, lines []string) string {
	for _, line := range lines {
		if !inUse.MatchString(line) {
			continue
		}
		for _, place := range ofPlace.FindAllString(line, -1) {
			if isTaken(ctx, place) {
				return place
			}
		}
	}
	return ""
}

// portOf returns the port of a host:port.
func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}
