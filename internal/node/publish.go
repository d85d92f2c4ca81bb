package node

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/record"
)

// recordLifetime is how long a published record outlives its publisher. Checks
// on every reader drop a dead server within seconds; this only bounds how long
// the overlay remembers it.
const recordLifetime = 30 * time.Second

// A publisher publishes this node's own server of one service while its check
// answers.
type publisher struct {
	service string   // short name, as in the view
	names   []string // full names, as in records
	addr    netip.AddrPort
	checker *health.Checker
	view    *view
	log     *slog.Logger

	// Without an overlay, as on a control plane that has left gossip, the
	// node still knows about itself; nil then.
	overlay GossipOverlay
	creds   *enrol.Credentials

	published bool
}

// run publishes and withdraws until ctx ends, and withdraws before it returns.
func (p *publisher) run(ctx context.Context) error {
	refresh := time.NewTicker(recordLifetime / 3)
	defer refresh.Stop()
	defer p.state(false, "shutting down")
	for {
		r := p.checker.Results()[p.addr]
		switch {
		case r.Health == endpoint.Up && !p.published:
			p.state(true, r.Reason)
		case r.Health.Away() && p.published:
			p.state(false, r.Reason)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.checker.Changed():
		case <-refresh.C:
			if p.published {
				p.spread(true)
			}
		}
	}
}

// state publishes or withdraws the server.
func (p *publisher) state(up bool, reason string) {
	if up == p.published {
		return
	}
	p.published = up
	p.log.Info("own server", "service", p.service, "addr", p.addr.String(), "published", up, "reason", reason)
	if up {
		p.view.learn(p.service, endpoint.Self, []netip.AddrPort{p.addr})
	} else {
		p.view.retract(p.service, endpoint.Self)
	}
	p.spread(up)
}

// spread publishes the server's state in the overlay, under every name.
func (p *publisher) spread(up bool) {
	if p.overlay == nil {
		return
	}
	for _, name := range p.names {
		if err := p.publish(name, up); err != nil {
			p.log.Error("publish record", "name", name, "err", err)
		}
	}
}

func (p *publisher) publish(name string, up bool) error {
	now := time.Now()
	// Asked each time: the certificate is renewed while the node runs.
	cert := p.creds.Current()
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("the key of %s cannot sign", p.creds.Identity())
	}
	r := record.Record{Name: name, Publisher: p.creds.Identity().Node}
	if up {
		r.Addrs = []netip.AddrPort{p.addr}
	}
	// An earlier run of this node may have published with a clock that was ahead; the
	// record must be newer than whatever the overlay still holds.
	var last record.Clock
	held := p.overlay.Records()
	if s, ok := held.Get(r.Key()); ok {
		last = s.Clock
	}
	r.Clock = last.Next(now)
	r.Expires = r.Clock.Time().Add(recordLifetime)
	s, err := record.Sign(r, cert.Leaf.Raw, key)
	if err != nil {
		return fmt.Errorf("sign %q: %w", name, err)
	}
	return p.overlay.Publish(s)
}
