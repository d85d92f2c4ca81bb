// Command muster-peer is the node daemon with the gossip overlay: control-plane
// nodes of gossip and hybrid clusters, and workers of gossip clusters. With
// protokube's flags it takes protokube's place in a kOps cluster.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/peer"
)

func main() { os.Exit(peer.Main(os.Args[1:], os.Stdout, os.Stderr)) }
