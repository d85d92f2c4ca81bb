// Package peer is the part of muster-peer that muster-agent lacks: the gossip overlays, adapted to the node daemon.
package peer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/overlay/memberlist"
	"github.com/muster-dev/muster/internal/protokube"
	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/seeds"
)

// NewOverlay creates the native overlay of a node. It is a node.OverlayFactory.
func NewOverlay(cfg node.Config, verifier record.Verifier, log *slog.Logger) (node.GossipOverlay, error) {
	o, err := memberlist.New(memberlist.Config{
		Cluster:  cfg.Cluster,
		Node:     cfg.Node,
		Bind:     cfg.Overlay.Listen.AddrPort,
		Keyring:  cfg.Overlay.Keyring,
		Seeds:    seedsOf(*cfg.Overlay),
		Verifier: verifier,
		Logger:   log,
	})
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	return overlay{o}, nil
}

// overlay adds the view for status and metrics.
type overlay struct{ *memberlist.Overlay }

// View implements node.GossipOverlay.
func (o overlay) View() *node.OverlayView {
	stats := o.Stats()
	v := &node.OverlayView{Records: stats.Records, Dropped: stats.Dropped}
	for _, m := range o.Members() {
		if m.State == memberlist.Alive {
			v.Members = append(v.Members, m.Name)
		}
	}
	slices.Sort(v.Members)
	return v
}

// seedsOf returns the configured seeds and those of the seeds file, which is read each time because it may have been
// updated.
func seedsOf(cfg node.Overlay) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) ([]netip.AddrPort, error) {
		all := slices.Clone(cfg.Seeds)
		if cfg.SeedsFile == "" {
			return all, nil
		}
		found, err := seeds.File(cfg.SeedsFile)
		if err != nil {
			err = fmt.Errorf("seedsFile: %w", err)
		}
		for _, a := range found {
			if a.Port() == 0 {
				return all, fmt.Errorf("seedsFile %s: %s has no port; write ADDRESS:PORT", cfg.SeedsFile, a.Addr())
			}
			all = append(all, a)
		}
		return all, err
	}
}

// Main runs muster-peer and returns its exit code. With protokube's verb or any of its flags it runs in protokube's
// place, otherwise as a node daemon.
func Main(args []string, stdout, stderr io.Writer) int {
	if protokube.Wanted(args) {
		return protokube.Main(name, NewLegacyOverlay, clouds, args, stdout, stderr)
	}
	return daemon.Main(name, NewOverlay, args, stdout, stderr)
}

const name = "muster-peer"
