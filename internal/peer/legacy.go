package peer

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/protokube"
)

// NewLegacyOverlay makes the legacy overlay, or the two of them, that a node in
// protokube's place takes part in. It implements protokube.OpenFunc.
func NewLegacyOverlay(cfg protokube.OverlayConfig) (protokube.Overlay, error) {
	return newLegacy(cfg, cfg.Primary, cfg.Seeds)
}

func newLegacy(cfg protokube.OverlayConfig, g protokube.Gossip, seeds func(context.Context) ([]netip.AddrPort, error)) (protokube.Overlay, error) {
	if g.Protocol == protokube.Memberlist {
		n, err := kopsmemberlist.New(kopsmemberlist.Config{Listen: g.Listen, Seeds: seeds, Logger: cfg.Log})
		if err != nil {
			return nil, fmt.Errorf("memberlist overlay: %w", err)
		}
		return members{n}, nil
	}
	n, err := weave.New(weave.Config{NodeName: cfg.Node, Listen: g.Listen, Secret: g.Secret, Seeds: seeds, Logger: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("mesh overlay: %w", err)
	}
	return mesh{n}, nil
}

// mesh is the weave overlay as protokube's place wants it.
type mesh struct{ *weave.Node }

// State implements protokube.Overlay.
func (m mesh) State() ([]legacy.Entry, []legacy.Tie) { return m.Node.State(), m.Ties() }

// Members implements protokube.Overlay.
func (m mesh) Members() (names []string) {
	for _, p := range m.Peers() {
		if p.Reachable && !p.Self {
			names = append(names, p.NickName)
		}
	}
	return names
}

// members is kOps's memberlist overlay as protokube's place wants it.
type members struct{ *kopsmemberlist.Node }

// State implements protokube.Overlay.
func (m members) State() ([]legacy.Entry, []legacy.Tie) { return m.Node.State(), m.Ties() }

// Members implements protokube.Overlay. The overlay knows its members by addresses:
// their names are new at each start.
func (m members) Members() (names []string) {
	for _, p := range m.Peers() {
		if p.Status == kopsmemberlist.Alive && !p.Self {
			names = append(names, p.Addr.String())
		}
	}
	return names
}
