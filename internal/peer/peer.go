// Package peer is what muster-peer has and muster-agent has not: the gossip
// overlay, fitted to the node daemon.
package peer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/overlay/memberlist"
	"github.com/muster-dev/muster/internal/record"
)

// NewOverlay makes the native overlay for a node. It implements
// node.OverlayFactory.
func NewOverlay(cfg node.Config, verifier record.Verifier, log *slog.Logger) (node.GossipOverlay, error) {
	o, err := memberlist.New(memberlist.Config{
		Cluster:  cfg.Cluster,
		Node:     cfg.Node,
		Bind:     cfg.Overlay.Listen.AddrPort,
		Keyring:  cfg.Overlay.Keyring,
		Seeds:    seeds(*cfg.Overlay),
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

// seeds returns the configured seeds and those of the seeds file, which is read
// anew each time: whatever maintains it may know better by now.
func seeds(cfg node.Overlay) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) ([]netip.AddrPort, error) {
		all := slices.Clone(cfg.Seeds)
		if cfg.SeedsFile == "" {
			return all, nil
		}
		data, err := os.ReadFile(cfg.SeedsFile)
		if err != nil {
			return all, fmt.Errorf("seedsFile: %w", err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		for number := 1; lines.Scan(); number++ {
			text, _, _ := strings.Cut(lines.Text(), "#")
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			addr, err := netip.ParseAddrPort(text)
			if err != nil {
				return all, fmt.Errorf("seedsFile %s:%d: %q is not ADDRESS:PORT", cfg.SeedsFile, number, text)
			}
			all = append(all, addr)
		}
		return all, lines.Err()
	}
}
