package protokube

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// checker checks which servers answer. health.Checker implements it.
type checker interface {
	Run(ctx context.Context) error
	SetTargets(servers []netip.AddrPort)
	Results() map[netip.AddrPort]health.Result
	Changed() <-chan struct{}
}

// A publisher keeps this node's own server in the record of one name while it answers, next to the servers that other
// nodes put there. The overlays have one value a name and the last writer wins, so every publisher reads, changes and
// writes the whole list. Lost updates and the addresses of dead nodes are repaired by any publisher that sees them.
type publisher struct {
	publication Publication
	key         legacy.Key
	policy      legacy.Policy
	table       *addressTable
	overlay     Overlay
	checker     checker
	log         *slog.Logger
	fault       fault // of the last write

	// Everything below belongs to run.
	suspects map[netip.Addr]suspect
	last     string // the value last written, for the log
}

// A suspect is another node's server that looks down from here.
type suspect struct {
	since    time.Time     // down since, or zero
	wait     time.Duration // how long it must be down before it is removed
	recorded time.Time     // when the record last had it
}

// How long another node's server must be down before it is removed from the record. If its own node puts it back
// while it still looks down from here, the fault is in between, and each time the wait doubles.
const (
	minRemoval = 3 * time.Second
	maxRemoval = 10 * time.Minute
	// suspectExpiry is how long a suspect is remembered after it was removed from the record.
	suspectExpiry = 2 * maxRemoval
)

func newPublisher(p Publication, cfg Config, t *addressTable, o Overlay, log *slog.Logger) (*publisher, error) {
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s: no PEM certificate in it", cfg.CA)
	}
	log = log.With("name", p.Name)
	checker, err := health.New(health.Config{ServerName: p.Name, Roots: roots, Path: p.Path, Interval: 500 * time.Millisecond, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--publish %s: %w", p.Name, err)
	}
	return &publisher{
		publication: p,
		key:         legacy.AddressKey(p.Name, p.Addr.Addr()),
		policy:      t.policy,
		table:       t,
		overlay:     o,
		checker:     checker,
		log:         log,
		suspects:    make(map[netip.Addr]suspect),
	}, nil
}

// run publishes until ctx ends. It withdraws nothing then: the server goes on serving, and if it stops, other nodes
// remove it. stateSynced is closed once the overlay's state is known, or there is no point in waiting any longer:
// writing earlier could overwrite what others have published.
func (p *publisher) run(ctx context.Context, stateSynced <-chan struct{}) error {
	p.checker.SetTargets([]netip.AddrPort{p.publication.Addr})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.checker.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-stateSynced:
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			changed := p.overlay.Changed()
			p.reconcile(time.Now())
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-p.checker.Changed():
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// reconcile compares the record with the servers' health, and writes the record if it should be different.
func (p *publisher) reconcile(now time.Time) {
	state := p.overlay.State()
	recorded, value := p.recorded(state, now)
	results := p.checker.Results()
	healthOf := func(a netip.Addr) endpoint.Health {
		return results[netip.AddrPortFrom(a, p.publication.Addr.Port())].Health
	}
	targets := []netip.AddrPort{p.publication.Addr}
	for _, a := range recorded {
		targets = append(targets, netip.AddrPortFrom(a, p.publication.Addr.Port()))
	}
	p.checker.SetTargets(targets)

	own := p.publication.Addr.Addr()
	overdue := p.overdue(recorded, healthOf, now)
	want := desired(recorded, own, healthOf(own), overdue)
	text := legacy.FormatAddrs(want)
	if len(want) == 0 || text == value && !slices.Contains(state.Differ, p.key.String()) {
		p.fault.set(nil)
		return
	}
	if value == "" && healthOf(own) != endpoint.Up {
		p.fault.set(nil)
		return // it has nothing to publish, and must not publish for others
	}
	err := p.overlay.Publish(p.key.String(), text)
	changed := p.fault.set(err)
	if err != nil {
		if changed {
			p.log.Error("publish", "value", text, "err", err)
		}
		return
	}
	for _, a := range overdue {
		d := p.suspects[a]
		d.since, d.wait = time.Time{}, min(2*d.wait, maxRemoval)
		p.suspects[a] = d
	}
	if text != p.last || changed {
		p.last = text
		p.log.Info("published", "from", value, "to", text)
	}
}

// recorded returns the addresses in the record, and its value. If peers have different values of one version, it
// returns the addresses of all and an empty value; if there is no acceptable record, the addresses accepted last.
func (p *publisher) recorded(state State, now time.Time) (addrs []netip.Addr, value string) {
	key := p.key.String()
	add := func(e legacy.Entry) {
		if e.Key == key && !e.Tombstone {
			_, lastGood := p.policy.Evaluate(nil, []legacy.Entry{e}, now)
			addrs = append(addrs, lastGood[p.key].Addrs...)
		}
	}
	for _, e := range state.Entries {
		if e.Key == key && !e.Tombstone {
			value = e.Value
			add(e)
		}
	}
	for _, t := range state.Ties {
		if t.Held.Key == key {
			value = ""
			add(t.Held)
			add(t.Other)
		}
	}
	if len(addrs) == 0 {
		addrs = p.table.addrsOf(p.key)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), value
}

// overdue returns the other nodes' servers that have been down long enough to be removed, and updates suspects.
func (p *publisher) overdue(recorded []netip.Addr, healthOf func(netip.Addr) endpoint.Health, now time.Time) (overdue []netip.Addr) {
	for _, a := range recorded {
		d := p.suspects[a]
		switch h := healthOf(a); {
		case a == p.publication.Addr.Addr():
			continue
		case h == endpoint.Up:
			delete(p.suspects, a)
			continue
		case h != endpoint.Down:
			continue
		case d.wait == 0:
			d = suspect{since: now, wait: minRemoval}
		case d.since.IsZero():
			d.since = now
		}
		d.recorded = now
		p.suspects[a] = d
		if now.Sub(d.since) >= d.wait {
			overdue = append(overdue, a)
		}
	}
	maps.DeleteFunc(p.suspects, func(a netip.Addr, d suspect) bool {
		return now.Sub(d.recorded) > suspectExpiry && !slices.Contains(recorded, a)
	})
	return overdue
}

// desired returns the addresses that the record should have: the recorded ones, with the node's own server while that
// is up, without it when it is down, and without overdue ones. It is empty if the node should not write: before its
// own server was checked, and if that is down and not recorded, or the last one. Only a node whose own server is up
// removes others: a node that is cut off must not decide for all.
func desired(recorded []netip.Addr, own netip.Addr, ownHealth endpoint.Health, overdue []netip.Addr) []netip.Addr {
	want := slices.Clone(recorded)
	switch ownHealth {
	case endpoint.Up:
		want = slices.DeleteFunc(want, func(a netip.Addr) bool { return slices.Contains(overdue, a) })
		if !slices.Contains(want, own) {
			want = append(want, own)
		}
		return want
	case endpoint.Down, endpoint.Draining:
		if slices.Contains(want, own) {
			return slices.DeleteFunc(want, func(a netip.Addr) bool { return a == own })
		}
	}
	return nil
}
