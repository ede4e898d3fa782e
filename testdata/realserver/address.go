package realserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports of FreeAddress. The system hands out higher ones: to listeners that do not ask for one, and to connections.
const (
	firstPort = 15000
	lastPort  = 31999
)

// FreeAddress is an address on loopback on which nothing listens, for a program that cannot choose one by itself. Tests that
// run at the same time, which let the system choose their ports, do not come upon it.
func FreeAddress() (string, error) {
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1))) //nolint:gosec // no secret
		l, err := net.Listen("tcp", address)                                                              //nolint:noctx // binding does not wait
		if err != nil {
			continue // it is taken
		}
		return address, l.Close()
	}
	return "", fmt.Errorf("nothing could listen on 1000 ports from %d to %d", firstPort, lastPort)
}
