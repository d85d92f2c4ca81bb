package protokube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2/maybe"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// An addressTable turns the records of an overlay into the entries of the hosts block. It keeps the accepted
// addresses on disk, so that a node that starts without a reachable peer still has the last good ones. Safe for
// concurrent use.
type addressTable struct {
	policy legacy.Policy
	ports  map[string]uint16 // by name; records carry none
	path   string            // of the saved addresses
	log    *slog.Logger

	mu       sync.Mutex
	accepted legacy.LastGood            // guarded by mu
	tables   map[string]*endpoint.Table // guarded by mu; by name, for this node's own order
	refused  map[string]uint64          // guarded by mu; refusals since the start, by reason
	records  int                        // guarded by mu
	logged   map[string]string          // guarded by mu; refusals that were logged, by key
	changed  chan struct{}              // guarded by mu; closed and replaced when accepted changes
}

// newAddressTable loads the saved addresses. A damaged file is reported and otherwise ignored: the overlay will
// provide them.
func newAddressTable(cfg Config, log *slog.Logger) *addressTable {
	t := &addressTable{
		policy:   legacy.Policy{Names: cfg.Names, Networks: cfg.Networks},
		ports:    make(map[string]uint16),
		path:     filepath.Join(cfg.StateDir, "legacy-belief.json"),
		log:      log,
		accepted: make(legacy.LastGood),
		tables:   make(map[string]*endpoint.Table),
		refused:  make(map[string]uint64),
		logged:   make(map[string]string),
		changed:  make(chan struct{}),
	}
	for _, name := range cfg.Names {
		var own netip.Addr
		t.ports[name], _ = defaultPort(name)
		for _, p := range cfg.Publish {
			if p.Name == name {
				own, t.ports[name] = p.Addr.Addr(), p.Addr.Port()
			}
		}
		t.tables[name] = endpoint.NewTable(cfg.Node, own)
	}
	saved, err := readSaved(t.path)
	if err != nil {
		log.Error("starting without what was believed last", "err", err)
	}
	// Judged again, because names and networks may have changed. Saved entries carry no version: the clock may be
	// wrong this early.
	_, t.accepted = t.policy.Evaluate(nil, saved, time.Now())
	t.fillTables()
	return t
}

// update judges the current records of the overlay and takes over the accepted addresses.
func (t *addressTable) update(entries []legacy.Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	verdicts, after := t.policy.Evaluate(t.accepted, entries, now)
	t.records = len(entries)
	for _, v := range verdicts {
		t.logRefusal(v)
	}
	was := t.accepted.Hosts()
	t.accepted = after
	is := after.Hosts()
	changed := false
	for _, name := range t.policy.Names {
		if slices.Equal(was[name], is[name]) {
			continue
		}
		changed = true
		t.log.Info("addresses changed", "name", name, "from", formatAddrs(was[name]), "to", formatAddrs(is[name]))
	}
	if !changed {
		return
	}
	t.fillTables()
	if err := writeSaved(t.path, after); err != nil {
		t.log.Error("keep what is believed", "err", err)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// reason classifies a refusal, for metrics.
func reason(v legacy.Verdict) string {
	switch {
	case v.Why == "withdrawn" || v.Why == "empty":
		return v.Why
	case strings.Contains(v.Why, "version"):
		return "from the future"
	case strings.Contains(v.Why, "belong"):
		return "not a name of the cluster"
	case strings.Contains(v.Why, "outside the cluster's networks"):
		return "outside the networks"
	}
	return "malformed"
}

// logRefusal counts and logs each refusal once. Withdrawals and other names are normal, and logged at debug level.
// The caller holds mu.
func (t *addressTable) logRefusal(v legacy.Verdict) {
	before, known := t.logged[v.Key]
	// Not the whole text: how far ahead a record is changes every second.
	what := fmt.Sprintf("%s, version %d", reason(v), v.Version)
	switch {
	case v.Why == "" || v.Key == legacy.MarkerKey:
		delete(t.logged, v.Key)
		return
	case known && before == what, !known && len(t.logged) == maxLogged:
		return
	}
	t.logged[v.Key] = what
	if !v.Accepted {
		t.refused[reason(v)]++
	}
	level := slog.LevelWarn
	if r := reason(v); !v.Accepted && (r == "withdrawn" || r == "not a name of the cluster") {
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, "record not believed", "key", v.Key, "why", v.Why, "kept", v.Kept)
}

// maxLogged bounds the refusals that are remembered: anybody can make up keys.
const maxLogged = 1000

// fillTables updates tables from accepted. The caller holds mu, or has not shared t yet.
func (t *addressTable) fillTables() {
	for name, addrs := range t.accepted.Hosts() {
		ports := make([]netip.AddrPort, len(addrs))
		for i, a := range addrs {
			ports[i] = netip.AddrPortFrom(a, t.ports[name])
		}
		// Replace fails only for an empty list, and accepted has none.
		_, _ = t.tables[name].Replace(endpoint.Overlay, ports)
	}
}

// hostEntries implements what a hosts.Keeper asks for. Each node has an order of its
// own, its own server first, so that not all try the same one first.
func (t *addressTable) hostEntries() ([]hosts.Entry, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var entries []hosts.Entry
	for _, name := range t.policy.Names {
		for _, e := range t.tables[name].All() {
			entries = append(entries, hosts.Entry{Addr: e.Addr.Addr(), Names: []string{name}})
		}
	}
	return entries, t.changed
}

// addrsOf returns the accepted addresses of a key.
func (t *addressTable) addrsOf(k legacy.Key) []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.accepted[k].Addrs)
}

// ready reports whether an address of the first name is known, and returns a channel that is closed when that may
// change.
func (t *addressTable) ready() (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.tables[t.policy.Names[0]].All()) > 0, t.changed
}

// describe adds the accepted addresses to a report.
func (t *addressTable) describe(r *node.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Overlay = &node.OverlayView{Records: t.records, Dropped: maps.Clone(t.refused)}
	for i, name := range t.policy.Names {
		all := t.tables[name].All()
		// A cluster may have no address for the other names.
		if i == 0 && len(all) == 0 {
			r.Problems = append(r.Problems, "no address known for "+name)
		}
		r.Services = append(r.Services, node.ServiceView{Name: name, Serving: all, Known: node.Servers(all)})
	}
}

func formatAddrs(addrs []netip.Addr) string { return legacy.FormatAddrs(addrs) }

// maxSaved bounds the file of saved addresses, in bytes: three names, two families.
const maxSaved = 1 << 20

func readSaved(path string) ([]legacy.Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var saved map[string]string
	if err := json.NewDecoder(io.LimitReader(f, maxSaved)).Decode(&saved); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var entries []legacy.Entry
	for key, value := range saved {
		entries = append(entries, legacy.Entry{Key: key, Record: legacy.Record{Value: value}})
	}
	return entries, nil
}

func writeSaved(path string, accepted legacy.LastGood) error {
	saved := make(map[string]string, len(accepted))
	for k, good := range accepted {
		saved[k.String()] = legacy.FormatAddrs(good.Addrs)
	}
	data, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return err
	}
	return maybe.WriteFile(path, append(data, '\n'), 0o644)
}
