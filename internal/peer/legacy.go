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

// NewLegacyOverlay creates the legacy overlay, or the pair of them, that a node in protokube's place takes part in.
// It is a protokube.OpenFunc.
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
		Secondary: p.secondary.side(cfg, cfg.Secondary, withoutPorts(cfg.Seeds)),
		Logger:    cfg.Log,
	})
	return &p, err
}

// withoutPorts clears the ports of seeds, which are the primary's.
func withoutPorts(seeds func(context.Context) ([]netip.AddrPort, error)) func(context.Context) ([]netip.AddrPort, error) {
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		all, err := seeds(ctx)
		all = slices.Clone(all)
		for i, a := range all {
			all[i] = netip.AddrPortFrom(a.Addr(), 0)
		}
		return all, err
	}
}

// legacyOverlay is what both legacy overlays implement.
type legacyOverlay interface {
	dual.Overlay
	Ties() []legacy.Tie
	members() []string
}

func newLegacy(cfg protokube.OverlayConfig, g protokube.Gossip, seeds func(context.Context) ([]netip.AddrPort, error)) (legacyOverlay, error) {
	if g.Protocol == protokube.Memberlist {
		n, err := kopsmemberlist.New(kopsmemberlist.Config{Listen: g.Listen, Seeds: seeds, Logger: cfg.Log})
		return memberlistOverlay{n}, err
	}
	n, err := weave.New(weave.Config{NodeName: cfg.Node, Listen: g.Listen, Secret: g.Secret, Seeds: seeds, Logger: cfg.Log})
	return meshOverlay{n}, err
}

type meshOverlay struct{ *weave.Node }

// members implements legacyOverlay.
func (m meshOverlay) members() (names []string) {
	for _, p := range m.Peers() {
		if p.Reachable && !p.Self {
			names = append(names, p.NickName)
		}
	}
	return names
}

type memberlistOverlay struct{ *kopsmemberlist.Node }

// members implements legacyOverlay. It returns addresses, because members have a new name at each start.
func (m memberlistOverlay) members() (names []string) {
	for _, p := range m.Peers() {
		if p.Status == kopsmemberlist.Alive && !p.Self {
			names = append(names, p.Addr.String())
		}
	}
	return names
}

// single implements protokube.Overlay with one overlay. If that cannot run, nor can the daemon.
type single struct{ legacyOverlay }

// State implements protokube.Overlay.
func (s single) State() protokube.State {
	return protokube.State{Entries: s.legacyOverlay.State(), Ties: s.Ties()}
}

// Synced implements protokube.Overlay.
func (s single) Synced() bool {
	select {
	case <-s.legacyOverlay.Synced():
		return true
	default:
		return false
	}
}

// View implements protokube.Overlay.
func (s single) View() protokube.View { return protokube.View{Members: s.members()} }

// pair implements protokube.Overlay with both overlays. One that cannot run is reported as a problem and retried.
type pair struct {
	*dual.Pair
	primary, secondary instance
}

// instance is the current instance of one overlay; package dual creates a new one when it fails.
type instance struct{ current atomic.Pointer[legacyOverlay] }

func (l *instance) side(cfg protokube.OverlayConfig, g protokube.Gossip, seeds func(context.Context) ([]netip.AddrPort, error)) dual.Side {
	return dual.Side{Name: g.Protocol, Make: func() (dual.Overlay, error) {
		n, err := newLegacy(cfg, g, seeds)
		if err != nil {
			return nil, err
		}
		l.current.Store(&n)
		return n, nil
	}}
}

// Publish implements protokube.Overlay.
func (p *pair) Publish(key, value string) error { return p.Put(key, value) }

// State implements protokube.Overlay.
func (p *pair) State() protokube.State {
	s := protokube.State{Entries: p.Entries()}
	for _, l := range []*instance{&p.primary, &p.secondary} {
		s.Ties = append(s.Ties, (*l.current.Load()).Ties()...)
	}
	// Nothing to compare until both have received a peer's state.
	differences, _ := p.Differences()
	for _, d := range differences {
		s.Differ = append(s.Differ, d.Key)
	}
	return s
}

// View implements protokube.Overlay.
func (p *pair) View() (v protokube.View) {
	v.Members = (*p.primary.current.Load()).members()
	for _, s := range p.Status() {
		if s.Err != nil {
			v.Problems = append(v.Problems, fmt.Sprintf("%s overlay does not run: %v", s.Name, s.Err))
		}
	}
	return v
}
