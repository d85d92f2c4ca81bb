// Command muster-agent is the node daemon without gossip: workers of a hybrid
// cluster, and every node of a cluster that has left gossip. It links no overlay
// and no cloud SDK, and a test keeps it so.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/daemon"
)

func main() { os.Exit(daemon.Main("muster-agent", nil, os.Args[1:], os.Stdout, os.Stderr)) }
