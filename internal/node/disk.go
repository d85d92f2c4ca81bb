package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2/maybe"

	"github.com/muster-dev/muster/internal/endpoint"
)

// memory is what a node keeps across restarts, so that it can start with every
// server of its configuration replaced since. It only ever grows better: lists
// that came from live sources replace older ones, nothing empties them.
// Safe for concurrent use.
type memory struct {
	path string

	mu   sync.Mutex
	kept map[string][]netip.AddrPort // by service; guarded by mu
}

// openMemory reads what an earlier run saved. A damaged file is reported but not
// fatal: the configuration still has the addresses of the first boot.
func openMemory(stateDir string) (*memory, error) {
	m := &memory{path: filepath.Join(stateDir, "endpoints.json"), kept: make(map[string][]netip.AddrPort)}
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the last good endpoints: %w", err)
	}
	var kept map[string][]netip.AddrPort
	if err := json.Unmarshal(data, &kept); err != nil {
		return m, fmt.Errorf("read the last good endpoints %s: %w", m.path, err)
	}
	if kept != nil {
		m.kept = kept
	}
	return m, nil
}

// recall returns the last good addresses of a service; it may be empty.
func (m *memory) recall(service string) []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.kept[service])
}

// adopt adds addresses to those that were taken over for a service, and returns
// all of these. They are kept beside the last good ones and never dropped: what
// is stale among them proves nothing by its certificate and harms nobody.
func (m *memory) adopt(service string, addrs []netip.AddrPort) ([]netip.AddrPort, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := service + " adopted"
	all := m.kept[key]
	for _, a := range addrs {
		if !slices.Contains(all, a) && len(all) < maxKept {
			all = append(slices.Clone(all), a)
		}
	}
	if len(all) == len(m.kept[key]) {
		return all, nil
	}
	m.kept[key] = all
	return all, m.save()
}

// maxKept bounds what a hosts file, or DNS, can make the node keep and check. kOps
// writes an address a zone, or one a control-plane node.
const maxKept = 64

// keep saves the live servers of every serving set. Where there are none, servers that
// DNS listed and that have proven themselves come before what is kept, so that a node
// that found its control plane in DNS finds it again without.
func (m *memory) keep(sets map[string]endpoint.Set) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for name, set := range sets {
		if set.Isolated() {
			continue
		}
		var live, proven []netip.AddrPort
		for _, e := range set.Endpoints() {
			switch {
			case e.Live():
				live = append(live, e.Addr)
			case e.Health == endpoint.Up && slices.Contains(e.Sources, endpoint.DNS) && !slices.Contains(m.kept[name], e.Addr):
				proven = append(proven, e.Addr)
			}
		}
		switch {
		case len(live) > 0 && !slices.Equal(live, m.kept[name]):
			m.kept[name] = live
			changed = true
		case len(live) == 0 && len(proven) > 0:
			m.kept[name] = append(proven, m.kept[name]...)[:min(len(proven)+len(m.kept[name]), maxKept)]
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return m.save()
}

// save is called with mu held.
func (m *memory) save() error {
	data, err := json.MarshalIndent(m.kept, "", "  ")
	if err != nil {
		return err
	}
	if err := maybe.WriteFile(m.path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep the last good endpoints: %w", err)
	}
	return nil
}
