package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/labctl"
)

// superviseVerb is the hidden subcommand that `muster lab up` leaves running.
const superviseVerb = "lab-supervise"

// supervise runs a lab in the background until it is told to stop. args are the
// directory, the manifest, the topology to start in, and whether to use network
// namespaces.
func supervise(args []string, log *slog.Logger) error {
	if len(args) != 4 {
		return fmt.Errorf("want DIR MANIFEST TOPOLOGY NETNS, got %d arguments", len(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	specs, err := readSpecs(args[1:2])
	if err != nil {
		return err
	}
	programs, err := lab.FindPrograms()
	if err != nil {
		return err
	}
	start := cluster.Topology(args[2])
	if start == "" {
		start = cluster.Gossip
		if specs[0].UsesNoneDNS() {
			start = cluster.None
		}
	}
	return labctl.Supervise(ctx, args[0], lab.Config{
		Cluster:  specs[0],
		Start:    start,
		Programs: programs,
		Netns:    args[3] == "true",
		Log:      log,
	})
}
