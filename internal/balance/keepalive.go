package balance

import (
	"net"
	"time"
)

// keepAlive spreads two probes over userTimeout: idle + 2 * interval is equal to it,
// where it is 3 s or more, for the kernel counts in seconds. On Linux
// TCP_USER_TIMEOUT replaces the count of probes, so if the first probe were sent later
// than that, the loss of that one alone would break the connection.
func keepAlive(userTimeout time.Duration) net.KeepAliveConfig {
	third := max(userTimeout/3, time.Second)
	return net.KeepAliveConfig{Enable: true, Idle: third, Interval: third, Count: 2}
}
