package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
)

// A view is what a node knows about all its services: the results of all sources
// and health checks, merged. Sources write to it; the hosts block, the balancer and
// the endpoint stream read from it. Safe for concurrent use.
type view struct {
	log *slog.Logger

	mu       sync.Mutex
	tables   map[string]*endpoint.Table // guarded by mu; keys never change
	serving  map[string]endpoint.Set    // guarded by mu
	revision uint64                     // guarded by mu; grows when a serving set gets other addresses
	changed  chan struct{}              // guarded by mu; closed and replaced when anything is learned
}

func newView(cfg Config, log *slog.Logger) *view {
	v := &view{
		log:     log,
		tables:  make(map[string]*endpoint.Table),
		serving: make(map[string]endpoint.Set),
		changed: make(chan struct{}),
	}
	for _, s := range cfg.Services {
		v.tables[s.Name] = endpoint.NewTable(cfg.Node, s.Publish.Addr())
		v.tables[s.Name].Prefer(s.Prefer)
	}
	v.tables[discoveryService] = endpoint.NewTable(cfg.Node, netip.Addr{})
	return v
}

// learn records a source's addresses for a service. An empty answer is logged and
// otherwise ignored: the last good one stays.
func (v *view) learn(service string, src endpoint.Source, addrs []netip.AddrPort) {
	v.update(service, fmt.Sprintf("source %s", src), func(t *endpoint.Table) (bool, error) {
		return t.Replace(src, addrs)
	})
}

// retract drops what a source said about a service.
func (v *view) retract(service string, src endpoint.Source) {
	v.update(service, fmt.Sprintf("source %s retracted", src), func(t *endpoint.Table) (bool, error) {
		return true, t.Retract(src)
	})
}

// observe records the results of a service's health checks.
func (v *view) observe(service string, results map[netip.AddrPort]health.Result) {
	v.update(service, "health", func(t *endpoint.Table) (changed bool, err error) {
		for addr, r := range results {
			changed = t.Observe(addr, r.Health) || changed
		}
		return changed, nil
	})
}

// update applies one change to one table and publishes the serving set if it
// came out different.
func (v *view) update(service, cause string, change func(*endpoint.Table) (bool, error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tables[service]
	if !ok {
		return
	}
	changed, err := change(t)
	if errors.Is(err, endpoint.ErrEmpty) {
		v.log.Debug("endpoints kept", "service", service, "reason", err)
		return
	}
	if !changed {
		return
	}
	set, err := t.Serving()
	if err != nil {
		return // nothing was ever known; there is nothing to announce
	}
	was := v.serving[service]
	v.serving[service] = set
	close(v.changed)
	v.changed = make(chan struct{})
	if was.SameAddrs(set) && was.Isolated() == set.Isolated() {
		return
	}
	v.revision++
	v.log.Info("endpoints changed", "service", service, "from", was.String(), "to", set.String(), "isolated", set.Isolated(), "cause", cause)
}

// get returns what serves a service now; ok is false as long as nothing does.
func (v *view) get(service string) (set endpoint.Set, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	set, ok = v.serving[service]
	return set, ok
}

// known returns every endpoint of a service, serving or not.
func (v *view) known(service string) []endpoint.Endpoint {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tables[service].All()
}

// snapshot returns every serving set, the revision they belong to, and a
// channel that is closed when they are no longer current.
func (v *view) snapshot() (map[string]endpoint.Set, uint64, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sets := make(map[string]endpoint.Set, len(v.serving))
	for name, s := range v.serving {
		sets[name] = s
	}
	return sets, v.revision, v.changed
}

// follow calls do with every state of the view, starting with the present one,
// until ctx ends. States that come and go while do runs are skipped.
func (v *view) follow(ctx context.Context, do func(map[string]endpoint.Set)) {
	for {
		sets, _, changed := v.snapshot()
		do(sets)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
