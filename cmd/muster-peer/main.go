// Command muster-peer is the node daemon with the gossip overlay: control-plane
// nodes of gossip and hybrid clusters, and workers of gossip clusters.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/peer"
)

func main() { os.Exit(daemon.Main("muster-peer", peer.NewOverlay, os.Args[1:], os.Stdout, os.Stderr)) }
