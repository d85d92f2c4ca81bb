package peer

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
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
func (m mesh) State() protokube.State {
	return protokube.State{Entries: m.Node.State(), Ties: m.Ties()}
}

// Synced implements protokube.Overlay.
func (m mesh) Synced() bool { return isClosed(m.Node.Synced()) }

// View implements protokube.Overlay.
func (m mesh) View() (v protokube.View) {
	for _, p := range m.Peers() {
		if p.Reachable && !p.Self {
			v.Members = append(v.Members, p.NickName)
		}
	}
	return v
}

// members is kOps's memberlist overlay as protokube's place wants it.
type members struct{ *kopsmemberlist.Node }

// State implements protokube.Overlay.
func (m members) State() protokube.State {
	return protokube.State{Entries: m.Node.State(), Ties: m.Ties()}
}

// Synced implements protokube.Overlay.
func (m members) Synced() bool { return isClosed(m.Node.Synced()) }

// View implements protokube.Overlay. The overlay knows its members by addresses:
// their names are new at each start.
func (m members) View() (v protokube.View) {
	for _, p := range m.Peers() {
		if p.Status == kopsmemberlist.Alive && !p.Self {
			v.Members = append(v.Members, p.Addr.String())
		}
	}
	return v
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
