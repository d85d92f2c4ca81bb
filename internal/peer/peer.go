// Package peer is what muster-peer has and muster-agent has not: the gossip
// overlay, fitted to the node daemon.
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

// NewOverlay makes the native overlay for a node. It implements
// node.OverlayFactory.
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

// overlay adds the view that status and metrics want.
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

// seedsOf returns the configured seeds and those of the seeds file, which is read
// anew each time: whatever maintains it may know better by now.
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

// Main runs muster-peer and returns its exit code. Its verb or any of protokube's
// flags put it in protokube's place; otherwise it is a node daemon like any.
func Main(args []string, stdout, stderr io.Writer) int {
	if protokube.Wanted(args) {
		return protokube.Main(name, NewLegacyOverlay, vendors, args, stdout, stderr)
	}
	return daemon.Main(name, NewOverlay, args, stdout, stderr)
}

const name = "muster-peer"
