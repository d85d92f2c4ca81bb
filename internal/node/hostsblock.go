package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/hosts"
)

// hostsCheck is how often the block is compared with what was written, and how
// long a failed write waits: cloud-init and image scripts rewrite /etc/hosts.
const hostsCheck = 5 * time.Second

// A hostsKeeper keeps the block in the hosts file equal to the serving sets.
type hostsKeeper struct {
	cfg  hosts.Config
	view *view
	// names gives the full names of each service, in the order of the file.
	services []hostsService
	last     map[string][]hosts.Entry // by service: what the block says; run's alone
	log      *slog.Logger

	mu      sync.Mutex
	state   string // guarded by mu; what status shows
	written int    // guarded by mu; blocks written by this process
	repairs int    // guarded by mu; foreign edits overwritten
}

type hostsService struct {
	service string
	names   []string
}

// entries lists the set's addresses in order, each once: two ports of one
// machine are one line in a hosts file.
func (s hostsService) entries(set endpoint.Set) []hosts.Entry {
	var entries []hosts.Entry
	seen := make(map[netip.Addr]bool)
	for _, a := range set.Addrs() {
		if !seen[a.Addr()] {
			seen[a.Addr()] = true
			entries = append(entries, hosts.Entry{Addr: a.Addr(), Names: s.names})
		}
	}
	return entries
}

// run waits for the file's lock, which another program holds while it hands
// the node over, and then keeps the block until ctx ends. The block stays when
// run returns: it is the last good one.
func (k *hostsKeeper) run(ctx context.Context) error {
	k.note("waiting for the lock of " + k.cfg.Path)
	for ctx.Err() == nil {
		file, err := hosts.Open(ctx, k.cfg)
		if err == nil {
			k.log.Info("hosts block owned", "file", k.cfg.Path)
			return k.keep(ctx, file)
		}
		if ctx.Err() != nil {
			break
		}
		k.fail("open hosts file", err)
		select {
		case <-ctx.Done():
		case <-time.After(hostsCheck):
		}
	}
	return nil
}

func (k *hostsKeeper) keep(ctx context.Context, file *hosts.File) error {
	defer file.Close()
	check := time.NewTicker(hostsCheck)
	defer check.Stop()
	for {
		sets, _, changed := k.view.snapshot()
		k.write(ctx, file, sets)
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				again = true
			case <-check.C:
				drifted, err := file.Check()
				if err != nil {
					k.fail("check hosts file", err)
				}
				again = drifted || err != nil
			}
		}
	}
}

// write brings the block up to date. A service of which this node can reach no
// server at all keeps its lines: the fault is more likely here.
func (k *hostsKeeper) write(ctx context.Context, file *hosts.File, sets map[string]endpoint.Set) {
	var entries []hosts.Entry
	for _, s := range k.services {
		set, ok := sets[s.service]
		if ok && (!set.Isolated() || k.last[s.service] == nil) {
			k.last[s.service] = s.entries(set)
		}
		entries = append(entries, k.last[s.service]...)
	}
	if len(entries) == 0 {
		k.note("no endpoint known yet")
		return
	}
	result, err := file.Write(ctx, entries)
	if err != nil {
		if ctx.Err() == nil {
			k.fail("write hosts block", err)
		}
		return
	}
	k.mu.Lock()
	k.state = "ok"
	if result.Changed {
		k.written++
	}
	if result.Foreign.Any() {
		k.repairs++
	}
	k.mu.Unlock()
}

func (k *hostsKeeper) fail(what string, err error) {
	if k.note(fmt.Sprintf("%s: %v", what, err)) {
		k.log.Error(what, "file", k.cfg.Path, "err", err)
	}
}

// note sets the state shown and reports whether it is news.
func (k *hostsKeeper) note(state string) (news bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	news = k.state != state
	k.state = state
	return news
}

// status returns the state and the counters.
func (k *hostsKeeper) status() (state string, written, repairs int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.written, k.repairs
}
