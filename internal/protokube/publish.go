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

// checker says which servers answer. health.Checker is one.
type checker interface {
	Run(ctx context.Context) error
	SetTargets(servers []netip.AddrPort)
	Results() map[netip.AddrPort]health.Result
	Changed() <-chan struct{}
}

// A publisher keeps this node's own server in the record of one name while it
// answers, beside the servers that its fellows put there. The overlays know one
// value a name and let the last writer win, so every publisher reads, adds and
// writes the whole list: what two of them write at the same time, and what a
// fellow that died left behind, is put right by whoever sees it.
type publisher struct {
	publication Publication
	key         legacy.Key
	judge       legacy.Judge
	believer    *believer
	overlay     Overlay
	checker     checker
	log         *slog.Logger

	// Everything below belongs to run.
	doubts map[netip.Addr]doubt
	last   string // the value written last, for the log
}

// A doubt is about a fellow's server that looks down from here.
type doubt struct {
	since time.Time     // down since, or zero
	wait  time.Duration // how long it has to be before it is taken out
	held  time.Time     // when the record last had it
}

// A fellow's server is taken out once it has been down for so long. One that is
// put back while it still looks down from here answers its own node: the fault is
// between us, and each round makes us wait twice as long.
const (
	doubtFirst = 3 * time.Second
	doubtMost  = 10 * time.Minute
	// doubtKept is how long a doubt outlives the address's removal from the record.
	doubtKept = 2 * doubtMost
)

func newPublisher(p Publication, cfg Config, b *believer, o Overlay, log *slog.Logger) (*publisher, error) {
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
		judge:       b.judge,
		believer:    b,
		overlay:     o,
		checker:     checker,
		log:         log,
		doubts:      make(map[netip.Addr]doubt),
	}, nil
}

// run publishes until ctx ends. Nothing is withdrawn then: the server goes on
// serving, and while it does not, fellows take it out. heard is closed once the
// overlay's state is known, or is not to be waited for any longer: who writes
// before that writes over what others have published.
func (p *publisher) run(ctx context.Context, heard <-chan struct{}) error {
	p.checker.SetTargets([]netip.AddrPort{p.publication.Addr})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.checker.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-heard:
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			changed := p.overlay.Changed()
			p.turn(time.Now())
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

// turn looks at the record and at the servers, and writes the record if it is not
// what it should be.
func (p *publisher) turn(now time.Time) {
	state := p.overlay.State()
	held, value := p.held(state, now)
	results := p.checker.Results()
	healthOf := func(a netip.Addr) endpoint.Health {
		return results[netip.AddrPortFrom(a, p.publication.Addr.Port())].Health
	}
	targets := []netip.AddrPort{p.publication.Addr}
	for _, a := range held {
		targets = append(targets, netip.AddrPortFrom(a, p.publication.Addr.Port()))
	}
	p.checker.SetTargets(targets)

	own := p.publication.Addr.Addr()
	dead := p.dead(held, healthOf, now)
	want := list(held, own, healthOf(own), dead)
	text := legacy.FormatAddrs(want)
	if len(want) == 0 || text == value && !slices.Contains(state.Differ, p.key.String()) {
		return
	}
	if value == "" && healthOf(own) != endpoint.Up {
		return // it has nothing to say, and what others should say they know better
	}
	if err := p.overlay.Publish(p.key.String(), text); err != nil {
		if text != p.last {
			p.log.Error("publish", "value", text, "err", err)
		}
		p.last = text
		return
	}
	for _, a := range dead {
		d := p.doubts[a]
		d.since, d.wait = time.Time{}, min(2*d.wait, doubtMost)
		p.doubts[a] = d
	}
	if text != p.last {
		p.last = text
		p.log.Info("published", "from", value, "to", text)
	}
}

// held returns the addresses that the record stands for, and its value as it is
// written. Where peers hold different values of one version, it is all of them
// and a value that nobody would write; where there is no record that can be
// believed, what was believed last.
func (p *publisher) held(state State, now time.Time) (addrs []netip.Addr, value string) {
	key := p.key.String()
	add := func(e legacy.Entry) {
		if e.Key == key && !e.Tombstone {
			_, belief := p.judge.Decide(nil, []legacy.Entry{e}, now)
			addrs = append(addrs, belief[p.key].Addrs...)
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
		addrs = p.believer.addrs(p.key)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), value
}

// dead returns the fellows' servers that have been down for long enough, and
// keeps the doubts about the others.
func (p *publisher) dead(held []netip.Addr, healthOf func(netip.Addr) endpoint.Health, now time.Time) (dead []netip.Addr) {
	for _, a := range held {
		d := p.doubts[a]
		switch h := healthOf(a); {
		case a == p.publication.Addr.Addr():
			continue
		case h == endpoint.Up:
			delete(p.doubts, a)
			continue
		case h != endpoint.Down:
			continue
		case d.wait == 0:
			d = doubt{since: now, wait: doubtFirst}
		case d.since.IsZero():
			d.since = now
		}
		d.held = now
		p.doubts[a] = d
		if now.Sub(d.since) >= d.wait {
			dead = append(dead, a)
		}
	}
	maps.DeleteFunc(p.doubts, func(a netip.Addr, d doubt) bool {
		return now.Sub(d.held) > doubtKept && !slices.Contains(held, a)
	})
	return dead
}

// list returns what a record should say: what it says, with the node's own server
// while that is up, without it when it is down, and without those that are dead.
// It is empty if the node has nothing to say: before its own server was looked at,
// and where that is down and not in the list, or the last that is. Fellows are
// judged only by a node whose own server is up: one that reaches nobody must not
// speak for all.
func list(held []netip.Addr, own netip.Addr, ownHealth endpoint.Health, dead []netip.Addr) []netip.Addr {
	want := slices.Clone(held)
	switch ownHealth {
	case endpoint.Up:
		want = slices.DeleteFunc(want, func(a netip.Addr) bool { return slices.Contains(dead, a) })
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
