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

// A believer turns what an overlay holds into what the hosts block says. It keeps
// what it believes on disk, so that a node that starts without a single peer
// within reach still has the last good answer. Safe for concurrent use.
type believer struct {
	judge legacy.Judge
	ports map[string]uint16 // by name; records carry none
	path  string            // of the file that outlives the process
	log   *slog.Logger

	mu      sync.Mutex
	belief  legacy.Belief              // guarded by mu
	tables  map[string]*endpoint.Table // guarded by mu; by name, for an order of this node's own
	refused map[string]uint64          // guarded by mu; refusals since the start, by reason
	records int                        // guarded by mu
	told    map[string]string          // guarded by mu; refusals that were logged, by key
	changed chan struct{}              // guarded by mu; closed and replaced when belief changes
}

// newBeliever recalls what was believed last. A damaged file is reported and
// otherwise ignored: the overlay will tell.
func newBeliever(cfg Config, log *slog.Logger) *believer {
	b := &believer{
		judge:   legacy.Judge{Names: cfg.Names, Networks: cfg.Networks},
		ports:   make(map[string]uint16),
		path:    filepath.Join(cfg.StateDir, "legacy-belief.json"),
		log:     log,
		belief:  make(legacy.Belief),
		tables:  make(map[string]*endpoint.Table),
		refused: make(map[string]uint64),
		told:    make(map[string]string),
		changed: make(chan struct{}),
	}
	for _, name := range cfg.Names {
		var own netip.Addr
		b.ports[name], _ = portOf(name)
		for _, p := range cfg.Publish {
			if p.Name == name {
				own, b.ports[name] = p.Addr.Addr(), p.Addr.Port()
			}
		}
		b.tables[name] = endpoint.NewTable(cfg.Node, own)
	}
	kept, err := readKept(b.path)
	if err != nil {
		log.Error("starting without what was believed last", "err", err)
	}
	// Judged again: names and networks may be others now. Their time has been
	// judged already, and the clock may be wrong this early.
	_, b.belief = b.judge.Decide(nil, kept, time.Now())
	b.arrange()
	return b
}

// hear judges a state as it is now.
func (b *believer) hear(entries []legacy.Entry, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	verdicts, after := b.judge.Decide(b.belief, entries, now)
	b.records = len(entries)
	for _, v := range verdicts {
		b.tell(v)
	}
	was := b.belief.Hosts()
	b.belief = after
	is := after.Hosts()
	changed := false
	for _, name := range b.judge.Names {
		if slices.Equal(was[name], is[name]) {
			continue
		}
		changed = true
		b.log.Info("addresses changed", "name", name, "from", texts(was[name]), "to", texts(is[name]))
	}
	if !changed {
		return
	}
	b.arrange()
	if err := writeKept(b.path, after); err != nil {
		b.log.Error("keep what is believed", "err", err)
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// reason is why a record is not believed, without what differs from one to the
// next: what metrics can count.
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

// tell counts and logs each refusal once. A withdrawal and somebody else's name
// are ordinary. The caller holds mu.
func (b *believer) tell(v legacy.Verdict) {
	before, known := b.told[v.Key]
	// Not the whole text: how far ahead a record lies changes by the second.
	what := fmt.Sprintf("%s, version %d", reason(v), v.Version)
	switch {
	case v.Why == "" || v.Key == legacy.MarkerKey:
		delete(b.told, v.Key)
		return
	case known && before == what, !known && len(b.told) == maxTold:
		return
	}
	b.told[v.Key] = what
	if !v.Accepted {
		b.refused[reason(v)]++
	}
	level := slog.LevelWarn
	if r := reason(v); !v.Accepted && (r == "withdrawn" || r == "not a name of the cluster") {
		level = slog.LevelDebug
	}
	b.log.Log(context.Background(), level, "record not believed", "key", v.Key, "why", v.Why, "kept", v.Kept)
}

// maxTold bounds the refusals that are remembered; anybody can make up keys.
const maxTold = 1000

// arrange brings the tables up to what is believed. The caller holds mu, or is
// the only one yet.
func (b *believer) arrange() {
	for name, addrs := range b.belief.Hosts() {
		ports := make([]netip.AddrPort, len(addrs))
		for i, a := range addrs {
			ports[i] = netip.AddrPortFrom(a, b.ports[name])
		}
		// The belief holds no empty list, which is the only fault there is.
		_, _ = b.tables[name].Replace(endpoint.Overlay, ports)
	}
}

// want implements what a hosts.Keeper asks for. Each node has an order of its
// own, its own server first, so that not all try the same one first.
func (b *believer) want() ([]hosts.Entry, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var entries []hosts.Entry
	for _, name := range b.judge.Names {
		for _, e := range b.tables[name].All() {
			entries = append(entries, hosts.Entry{Addr: e.Addr.Addr(), Names: []string{name}})
		}
	}
	return entries, b.changed
}

// addrs returns what is believed of a key.
func (b *believer) addrs(k legacy.Key) []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.belief[k].Addrs)
}

// ready reports whether the first of the names is known.
func (b *believer) ready() (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.tables[b.judge.Names[0]].All()) > 0, b.changed
}

// describe adds what is believed to a report.
func (b *believer) describe(r *node.Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Overlay = &node.OverlayView{Records: b.records, Dropped: maps.Clone(b.refused)}
	for i, name := range b.judge.Names {
		all := b.tables[name].All()
		// Of the others a cluster may have none.
		if i == 0 && len(all) == 0 {
			r.Problems = append(r.Problems, "no address known for "+name)
		}
		r.Services = append(r.Services, node.ServiceView{Name: name, Serving: all, Known: all})
	}
}

func texts(addrs []netip.Addr) string { return legacy.FormatAddrs(addrs) }

// maxKept bounds the file of what was believed last: three names, two families.
const maxKept = 1 << 20

func readKept(path string) ([]legacy.Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var kept map[string]string
	if err := json.NewDecoder(io.LimitReader(f, maxKept)).Decode(&kept); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var entries []legacy.Entry
	for key, value := range kept {
		entries = append(entries, legacy.Entry{Key: key, Record: legacy.Record{Value: value}})
	}
	return entries, nil
}

func writeKept(path string, belief legacy.Belief) error {
	kept := make(map[string]string, len(belief))
	for k, good := range belief {
		kept[k.String()] = legacy.FormatAddrs(good.Addrs)
	}
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return maybe.WriteFile(path, append(data, '\n'), 0o644)
}
