// Package protokube is muster-peer in the place of kOps's protokube: it takes
// part in a cluster's legacy gossip, on the same ports and beside real ones, and
// keeps the hosts block of its node.
//
// It is thin: the overlays speak, package legacy says what may be believed,
// package hosts writes. What is added is what is published: the zone marker,
// and this node's own servers while they answer, which in a kOps cluster is
// dns-controller's work, done without looking.
//
// It is no discovery for new clusters, and proves nothing about who wrote a
// record: what it believes is bounded by names, networks and time.
//
// Invariants: the block is never emptied, a record never loses its last address,
// and what was believed last survives a restart without peers. Nothing of a
// secret reaches a log.
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

// Overlay is the gossip that a daemon takes part in: one legacy overlay, or two
// as one. Implementations are safe for concurrent use.
type Overlay interface {
	// Run takes part until ctx ends. An error means that it could not.
	Run(ctx context.Context) error
	// Publish writes a value that replaces the one held, also before Run.
	Publish(key, value string) error
	// State returns what is held.
	State() State
	// Changed returns a channel that is closed at the next change of State.
	Changed() <-chan struct{}
	// Synced reports whether some peer's whole state was heard.
	Synced() bool
	// View returns how it is going, for people.
	View() View
}

// State is what an overlay holds.
type State struct {
	Entries []legacy.Entry // in the order of keys; of two overlays, the primary's
	Ties    []legacy.Tie   // where peers hold something else with the same version
	Differ  []string       // keys of which the secondary says something else
}

// View is how an overlay is doing.
type View struct {
	Members  []string // peers within reach
	Problems []string // one line each
}

// OverlayConfig is what an overlay is made from.
type OverlayConfig struct {
	Node               string
	Primary, Secondary Gossip
	// Seeds returns where peers of the primary may be; port 0 stands for the own
	// one. Peers of the secondary are at the same addresses, on its own port.
	Seeds func(context.Context) ([]netip.AddrPort, error)
	Log   *slog.Logger
}

// OpenFunc makes the overlay that a node takes part in.
type OpenFunc func(OverlayConfig) (Overlay, error)

// daemon is one node in protokube's place.
type daemon struct {
	cfg     Config
	log     *slog.Logger
	notify  func(string)
	started time.Time

	overlay    Overlay
	believer   *believer
	keeper     *hosts.Keeper
	publishers []*publisher
}

func newDaemon(cfg Config, open OpenFunc, notify func(string), log *slog.Logger) (*daemon, error) {
	if err := cfg.checkFiles(); err != nil {
		return nil, err
	}
	overlay, err := open(OverlayConfig{Node: cfg.Node, Primary: cfg.Primary, Secondary: cfg.Secondary, Seeds: cfg.seeds, Log: log})
	if err != nil {
		return nil, err
	}
	d := &daemon{cfg: cfg, log: log, notify: notify, overlay: overlay, believer: newBeliever(cfg, log)}
	d.keeper = hosts.NewKeeper(hosts.Config{Path: cfg.HostsFile, StateDir: cfg.StateDir, Logger: log}, d.believer.want)
	for _, p := range cfg.Publish {
		publisher, err := newPublisher(p, cfg, d.believer, overlay, log)
		if err != nil {
			return nil, err
		}
		d.publishers = append(d.publishers, publisher)
	}
	return d, nil
}

// run runs the daemon until ctx ends. It returns nil after an orderly stop.
func (d *daemon) run(ctx context.Context) error {
	d.started = time.Now()
	listeners, err := d.cfg.Status.Open()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.overlay.Run(ctx) })
	g.Go(func() error { return d.follow(ctx) })
	g.Go(func() error { return d.keeper.Run(ctx) })
	for _, ln := range listeners {
		g.Go(func() error { return d.serve(ctx, ln) })
	}
	heard := make(chan struct{})
	g.Go(func() error {
		defer close(heard)
		d.awaitState(ctx)
		return nil
	})
	for _, p := range d.publishers {
		g.Go(func() error { return p.run(ctx, heard) })
	}
	g.Go(func() error {
		node.Announce(ctx, d.notify, d.log, d.believer.ready)
		return nil
	})
	return g.Wait()
}

// patience is how long a publisher waits for somebody's state before it takes the
// overlay for empty.
const patience = 5 * time.Second

func (d *daemon) awaitState(ctx context.Context) {
	if d.cfg.alone(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// lookEvery is how often the state is judged although nothing has changed, as
// often as protokube does: what lies in the future is believed when its time has
// come.
const lookEvery = 5 * time.Second

// follow judges every state of the overlay, and keeps the zone marker in it.
func (d *daemon) follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var fault string
	for {
		changed := d.overlay.Changed()
		entries := d.overlay.State().Entries
		d.believer.hear(entries, time.Now())
		if err := d.mark(entries); err != nil && err.Error() != fault {
			fault = err.Error()
			d.log.Error("publish the zone marker", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// mark publishes the zone marker where it is missing: kOps's dns-controller
// publishes nothing before it sees it.
func (d *daemon) mark(entries []legacy.Entry) error {
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

// report returns the daemon's present state, in the words of every node daemon.
func (d *daemon) report() node.Report {
	r := node.Report{
		Program: "muster-peer protokube",
		Cluster: d.cfg.Cluster,
		Node:    d.cfg.Node,
		Role:    "gossip",
		Uptime:  time.Since(d.started).Seconds(),
	}
	d.believer.describe(&r)
	view := d.overlay.View()
	r.Overlay.Members = view.Members
	r.Problems = append(r.Problems, view.Problems...)
	if len(r.Overlay.Members) == 0 && !d.cfg.alone(context.Background()) {
		r.Problems = append(r.Problems, "no peer within reach; keeping the last good addresses")
	}
	r.NoteHosts(d.keeper.Status())
	return r
}
