package labcmd

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/labctl"
)

// SuperviseVerb is the hidden subcommand that `muster lab up` leaves running.
const SuperviseVerb = "lab-supervise"

// Supervise runs a lab in the background until it is told to stop. args are the
// directory, the manifest, the topology to start in and the overlay, both perhaps
// empty, whether to use network namespaces, and the programs of a real control
// plane, empty for the built-in one.
func Supervise(args []string, log *slog.Logger) error {
	if len(args) != 7 {
		return fmt.Errorf("want DIR MANIFEST TOPOLOGY OVERLAY NETNS KUBE-APISERVER ETCD, got %d arguments", len(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	m, err := console.Streams{}.ReadManifest(ctx, args[1])
	if err != nil {
		return err
	}
	programs, err := lab.FindPrograms()
	if err != nil {
		return err
	}
	return labctl.Supervise(ctx, args[0], args[1], lab.Config{
		Cluster:  m.Spec,
		Start:    startOf(m.Spec, args[2]),
		Overlay:  lab.Overlay(args[3]),
		Programs: programs,
		Netns:    args[4] == "true",
		Log:      log,

		Kubernetes: lab.Kubernetes{APIServer: args[5], Etcd: args[6]},
	})
}

// startOf returns the topology that a lab starts in: the one asked for, or else
// the one of the spec.
func startOf(c *cluster.Cluster, asked string) cluster.Topology {
	switch {
	case asked != "":
		return cluster.Topology(asked)
	case c.UsesNoneDNS():
		return cluster.None
	}
	return cluster.Gossip
}
