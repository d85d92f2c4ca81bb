package peer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/muster-dev/muster/internal/overlay/dual"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/protokube"
)

// NewLegacyOverlay makes the legacy overlay, or the two of them, that a node in
// protokube's place takes part in. It implements protokube.OpenFunc.
func NewLegacyOverlay(cfg protokube.OverlayConfig) (protokube.Overlay, error) {
	if cfg.Secondary.Protocol == "" {
		one, err := newLegacy(cfg, cfg.Primary, cfg.Seeds)
		if err != nil {
			return nil, fmt.Errorf("%s overlay: %w", cfg.Primary.Protocol, err)
		}
		return single{one}, nil
	}
	var p pair
	var err error
	p.Pair, err = dual.New(dual.Config{
		Primary:   p.primary.side(cfg, cfg.Primary, cfg.Seeds),
		Secondary: p.secondary.side(cfg, cfg.Secondary, portless(cfg.Seeds)),
		Logger:    cfg.Log,
	})
	return &p, err
}

// portless leaves ports out, which count for the primary only.
func portless(seeds func(context.Context) ([]netip.AddrPort, error)) func(context.Context) ([]netip.AddrPort, error) {
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		all, err := seeds(ctx)
		all = slices.Clone(all)
		for i, a := range all {
			all[i] = netip.AddrPortFrom(a.Addr(), 0)
		}
		return all, err
	}
}

// overlayNode is what both legacy overlays have.
type overlayNode interface {
	dual.Overlay
	Ties() []legacy.Tie
	members() []string
}

func newLegacy(cfg protokube.OverlayConfig, g protokube.Gossip, seeds func(context.Context) ([]netip.AddrPort, error)) (overlayNode, error) {
	if g.Protocol == protokube.Memberlist {
		n, err := kopsmemberlist.New(kopsmemberlist.Config{Listen: g.Listen, Seeds: seeds, Logger: cfg.Log})
		return memberlistNode{n}, err
	}
	n, err := weave.New(weave.Config{NodeName: cfg.Node, Listen: g.Listen, Secret: g.Secret, Seeds: seeds, Logger: cfg.Log})
	return meshNode{n}, err
}

type meshNode struct{ *weave.Node }

// members implements overlayNode.
func (m meshNode) members() (names []string) {
	for _, p := range m.Peers() {
		if p.Reachable && !p.Self {
			names = append(names, p.NickName)
		}
	}
	return names
}

type memberlistNode struct{ *kopsmemberlist.Node }

// members implements overlayNode. The overlay knows its members by addresses:
// their names are new at each start.
func (m memberlistNode) members() (names []string) {
	for _, p := range m.Peers() {
		if p.Status == kopsmemberlist.Alive && !p.Self {
			names = append(names, p.Addr.String())
		}
	}
	return names
}

// single is one overlay as protokube's place wants it. If it cannot run, nor can
// the daemon.
type single struct{ overlayNode }

// State implements protokube.Overlay.
func (s single) State() protokube.State {
	return protokube.State{Entries: s.overlayNode.State(), Ties: s.Ties()}
}

// Synced implements protokube.Overlay.
func (s single) Synced() bool {
	select {
	case <-s.overlayNode.Synced():
		return true
	default:
		return false
	}
}

// View implements protokube.Overlay.
func (s single) View() protokube.View { return protokube.View{Members: s.members()} }

// pair is both overlays as protokube's place wants them. One that cannot run is a
// problem, and tried again.
type pair struct {
	*dual.Pair
	primary, secondary life
}

// life is an overlay in its present life: package dual makes it anew when it fails.
type life struct{ now atomic.Pointer[overlayNode] }

func (l *life) side(cfg protokube.OverlayConfig, g protokube.Gossip, seeds func(context.Context) ([]netip.AddrPort, error)) dual.Side {
	return dual.Side{Name: g.Protocol, Make: func() (dual.Overlay, error) {
		n, err := newLegacy(cfg, g, seeds)
		if err != nil {
			return nil, err
		}
		l.now.Store(&n)
		return n, nil
	}}
}

// Publish implements protokube.Overlay.
func (p *pair) Publish(key, value string) error { return p.Put(key, value) }

// State implements protokube.Overlay.
func (p *pair) State() protokube.State {
	s := protokube.State{Entries: p.Entries()}
	for _, l := range []*life{&p.primary, &p.secondary} {
		s.Ties = append(s.Ties, (*l.now.Load()).Ties()...)
	}
	// As long as one of them has heard nobody there is nothing to compare.
	differences, _ := p.Differences()
	for _, d := range differences {
		s.Differ = append(s.Differ, d.Key)
	}
	return s
}

// View implements protokube.Overlay.
func (p *pair) View() (v protokube.View) {
	v.Members = (*p.primary.now.Load()).members()
	for _, s := range p.Status() {
		if s.Err != nil {
			v.Problems = append(v.Problems, fmt.Sprintf("%s overlay does not run: %v", s.Name, s.Err))
		}
	}
	return v
}
