// Package protokube is muster-peer in the place of kOps's protokube: it takes part in a cluster's legacy gossip, on
// the same ports and together with real protokubes, and keeps the hosts block of its node.
//
// It is thin: the overlays communicate, package legacy decides which records are accepted, package hosts writes the
// block. The package adds what is published: the zone marker, and this node's own servers while they answer. In a
// kOps cluster dns-controller publishes servers, without checking them.
//
// It is no discovery for new clusters, and cannot verify who wrote a record: accepted records are restricted by
// names, networks and time only.
//
// Invariants: the block is never emptied, a record never loses its last address, and the addresses accepted last
// survive a restart without peers. Secrets are never logged.
package protokube

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Overlay is the gossip network that a daemon takes part in: one legacy overlay, or a pair of them. Implementations
// are safe for concurrent use.
type Overlay interface {
	// Run takes part until ctx ends. It returns an error only if it cannot.
	Run(ctx context.Context) error
	// Publish replaces the value of a key. It may be called before Run.
	Publish(key, value string) error
	// State returns the current records.
	State() State
	// Changed returns a channel that is closed at the next change of State.
	Changed() <-chan struct{}
	// Synced reports whether the full state of some peer has been received.
	Synced() bool
	// View returns the overlay's status, for people.
	View() View
}

// State is the records of an overlay.
type State struct {
	Entries []legacy.Entry // in the order of keys; of two overlays, the primary's
	Ties    []legacy.Tie   // keys for which peers have another value with the same version
	Differ  []string       // keys with another value in the secondary
}

// View is an overlay's status.
type View struct {
	Members  []string // reachable peers
	Problems []string // one line each
}

// OverlayConfig configures an overlay.
type OverlayConfig struct {
	Node               string
	Primary, Secondary Gossip
	// Seeds returns addresses of possible peers of the primary; port 0 means its own port. Peers of the secondary are
	// at the same addresses, on its own port.
	Seeds func(context.Context) ([]netip.AddrPort, error)
	Log   *slog.Logger
}

// OpenFunc creates the overlay that a node takes part in.
type OpenFunc func(OverlayConfig) (Overlay, error)

// daemon is one node in protokube's place.
type daemon struct {
	cfg     Config
	log     *slog.Logger
	notify  func(string)
	started time.Time

	overlay    Overlay
	table      *addressTable
	keeper     *hosts.Keeper
	publishers []*publisher
	marker     fault // of publishing the zone marker
}

func newDaemon(cfg Config, open OpenFunc, notify func(string), log *slog.Logger) (*daemon, error) {
	if err := cfg.checkFiles(); err != nil {
		return nil, err
	}
	overlay, err := open(OverlayConfig{Node: cfg.Node, Primary: cfg.Primary, Secondary: cfg.Secondary, Seeds: cfg.seeds, Log: log})
	if err != nil {
		return nil, err
	}
	d := &daemon{cfg: cfg, log: log, notify: notify, overlay: overlay, table: newAddressTable(cfg, log)}
	d.keeper = hosts.NewKeeper(hosts.Config{Path: cfg.HostsFile, StateDir: cfg.StateDir, Logger: log}, d.table.hostEntries)
	for _, p := range cfg.Publish {
		publisher, err := newPublisher(p, cfg, d.table, overlay, log)
		if err != nil {
			return nil, err
		}
		d.publishers = append(d.publishers, publisher)
	}
	return d, nil
}

// run runs the daemon until ctx ends, and returns nil then.
func (d *daemon) run(ctx context.Context) error {
	d.started = time.Now()
	listeners, err := d.cfg.Status.Open()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.overlay.Run(ctx) })
	g.Go(func() error { return d.watchOverlay(ctx) })
	g.Go(func() error { return d.keeper.Run(ctx) })
	for _, ln := range listeners {
		g.Go(func() error { return d.serve(ctx, ln) })
	}
	stateSynced := make(chan struct{})
	g.Go(func() error {
		defer close(stateSynced)
		d.awaitSync(ctx)
		return nil
	})
	for _, p := range d.publishers {
		g.Go(func() error { return p.run(ctx, stateSynced) })
	}
	g.Go(func() error {
		node.Announce(ctx, d.notify, d.log, d.table.ready)
		return nil
	})
	return g.Wait()
}

// syncTimeout is how long publishers wait for a peer's state before they assume that the overlay is empty.
const syncTimeout = 5 * time.Second

func (d *daemon) awaitSync(ctx context.Context) {
	if d.cfg.noOtherSeed(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !d.overlay.Synced() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refreshInterval is how often records are judged again without a change, as often as protokube does: a record with a
// version in the future is accepted once its time has come.
const refreshInterval = 5 * time.Second

// watchOverlay judges every state of the overlay, and keeps the zone marker in it.
func (d *daemon) watchOverlay(ctx context.Context) error {
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		changed := d.overlay.Changed()
		entries := d.overlay.State().Entries
		d.table.update(entries, time.Now())
		switch err := d.publishMarker(entries); {
		case !d.marker.set(err):
		case err != nil:
			d.log.Error("publish the zone marker", "err", err)
		default:
			d.log.Info("published the zone marker")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// publishMarker publishes the zone marker if it is missing: kOps's dns-controller publishes nothing before it sees
// it.
func (d *daemon) publishMarker(entries []legacy.Entry) error {
	for _, e := range entries {
		if e.Key == legacy.MarkerKey && e.Value == legacy.MarkerValue && !e.Tombstone {
			return nil
		}
	}
	return d.overlay.Publish(legacy.MarkerKey, legacy.MarkerValue)
}

func (d *daemon) serve(ctx context.Context, ln net.Listener) error {
	return node.ServeStatus(ctx, ln, d.report, node.NewRegistry(d.report))
}

// report returns the daemon's current state, in the form common to all node daemons.
func (d *daemon) report() node.Report {
	r := node.Report{
		Program: "muster-peer protokube",
		Cluster: d.cfg.Cluster,
		Node:    d.cfg.Node,
		Role:    "gossip",
		Uptime:  time.Since(d.started).Seconds(),
	}
	d.table.describe(&r)
	view := d.overlay.View()
	r.Overlay.Members = view.Members
	r.Problems = append(r.Problems, view.Problems...)
	if p := d.marker.problem("the zone marker, without which dns-controller publishes nothing, cannot be published"); p != "" {
		r.Problems = append(r.Problems, p)
	}
	for _, p := range d.publishers {
		if p := p.fault.problem("this node's server of " + p.publication.Name + " cannot be published"); p != "" {
			r.Problems = append(r.Problems, p)
		}
	}
	if len(r.Overlay.Members) == 0 && !d.cfg.noOtherSeed(context.Background()) {
		r.Problems = append(r.Problems, "no peer within reach; keeping the last good addresses")
	}
	r.NoteHosts(d.keeper.Status())
	return r
}
