package company

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The range of ports to choose from. It is below the range that systems use for outgoing connections, so no connection
// takes a port while its process is down.
const (
	lowestPort  = 20000
	highestPort = 30000
)

// freeAddresses returns loopback addresses on which nothing listens.
func freeAddresses(n int) (addresses []string, err error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
	}()
	for range 100 * n {
		if len(addresses) == n {
			return addresses, nil
		}

		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(highestPort-lowestPort)))
		if err != nil {
			continue
		}
		listeners = append(listeners, l)
		addresses = append(addresses, l.Addr().String())
	}
	return nil, fmt.Errorf("finding %d free ports on 127.0.0.1 from %d to %d: nearly all are taken", n, lowestPort,
		highestPort)
}
