package dual

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

var (
	// ErrNotHeld is returned by Withdraw for a name that is in neither overlay. It may still be in one that has not
	// received a peer's state: see Synced.
	ErrNotHeld = errors.New("no overlay holds an address of that name")
	// ErrUnheard is returned by Differences until both overlays have received a peer's state, because what others
	// read there is not known.
	ErrUnheard = errors.New("has not heard anybody yet")
)

// Entries returns the primary's whole state, tombstones included, ordered by key. Apply a legacy.Policy before using
// it.
func (p *Pair) Entries() []legacy.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sides[0].entries()
}

// entries returns the merged state of all instances. The caller holds the pair's mu.
func (s *side) entries() []legacy.Entry {
	now := s.overlay.State()
	if s.previous.Len() == 0 {
		return now
	}
	var all legacy.State
	for _, entries := range [][]legacy.Entry{s.previous.Entries(), now} {
		// These are encoded states, so Merge does not fail.
		_, _ = all.Merge(legacy.Append(nil, entries...))
	}
	return all.Entries()
}

// Differences returns the keys, in order, for which a reader of the secondary sees another value than one of the
// primary. Without a secondary there are none. It fails with ErrUnheard until both have received a peer's state.
func (p *Pair) Differences() ([]legacy.Difference, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sides) < 2 {
		return nil, nil
	}
	for _, s := range p.sides {
		if !isClosed(s.overlay.Synced()) {
			return nil, fmt.Errorf("compare the overlays: %s %w", s.Name, ErrUnheard)
		}
	}
	return legacy.Compare(p.sides[0].entries(), p.sides[1].entries()), nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Publish sets the addresses of name in both overlays. A family without addresses is withdrawn if this pair has
// published it. The version written exceeds the one in each overlay, and is at least the current time. The error says
// which overlay failed; the other has been written.
func (p *Pair) Publish(name string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return fmt.Errorf("publish %q: no addresses", name)
	}
	families := make(map[string][]netip.Addr)
	for _, a := range addrs {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("publish %q: %q is no address that others could use", name, a)
		}
		key := legacy.AddressKey(name, a).String()
		families[key] = append(families[key], a)
	}
	if _, err := legacy.ParseKey(legacy.AddressKey(name, addrs[0]).String()); err != nil {
		return fmt.Errorf("publish %q: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, key := range addressKeys(name) {
		switch own, was := p.own[key]; {
		case len(families[key]) > 0:
			errs = append(errs, p.write(key, legacy.Record{Value: legacy.FormatAddrs(families[key])}))
		case was && !own.Tombstone:
			errs = append(errs, p.write(key, legacy.Record{Tombstone: true}))
		}
	}
	return errors.Join(errs...)
}

// Put sets the record at key in both overlays, with a version greater than that in each. An overlay that has the
// value already is not written. Use it to change one address family of a name and not the other.
func (p *Pair) Put(key, value string) error {
	if _, err := legacy.ParseKey(key); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(key, legacy.Record{Value: value})
}

// Withdraw deletes all addresses of name in both overlays, whoever published them. The overlays keep tombstones.
func (p *Pair) Withdraw(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := false
	var errs []error
	for _, key := range addressKeys(name) {
		if p.isLive(key) {
			held = true
			errs = append(errs, p.write(key, legacy.Record{Tombstone: true}))
		}
	}
	if !held {
		return fmt.Errorf("withdraw %q: %w", name, ErrNotHeld)
	}
	return errors.Join(errs...)
}

// addressKeys returns the keys of name's addresses.
func addressKeys(name string) []string {
	return []string{
		legacy.AddressKey(name, netip.IPv4Unspecified()).String(),
		legacy.AddressKey(name, netip.IPv6Unspecified()).String(),
	}
}

// isLive reports whether a reader of either overlay sees a record at key. The caller holds mu.
func (p *Pair) isLive(key string) bool {
	return slices.ContainsFunc(p.sides, func(s *side) bool {
		return slices.ContainsFunc(s.entries(), func(e legacy.Entry) bool { return e.Key == key && !e.Tombstone })
	})
}

// write writes to every overlay. An overlay that does not run gets it when it runs again. The caller holds mu.
func (p *Pair) write(key string, r legacy.Record) error {
	p.own[key] = r
	var errs []error
	for _, s := range p.sides {
		if err := write(s.overlay, key, r); err != nil {
			errs = append(errs, fmt.Errorf("%s overlay: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Flush waits until the writes have been sent in both overlays, or until ctx ends; the error says in which overlay
// they have not. Without peers they never are.
func (p *Pair) Flush(ctx context.Context) error {
	p.mu.Lock()
	overlays := make([]Overlay, len(p.sides))
	for i, s := range p.sides {
		overlays[i] = s.overlay
	}
	p.mu.Unlock()
	errs := make(chan error)
	for i, o := range overlays {
		go func() {
			err := o.Flush(ctx)
			if err != nil {
				err = fmt.Errorf("%s overlay: %w", p.sides[i].Name, err)
			}
			errs <- err
		}()
	}
	var all []error
	for range overlays {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// Changed returns a channel that is closed at the next change of an overlay's state. Get the channel before the
// state, and no change is missed.
func (p *Pair) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Synced reports whether the primary has received a peer's full state since it was last started. In a cluster of one
// node that never happens.
func (p *Pair) Synced() bool {
	return isClosed(p.current(p.sides[0]).Synced())
}

// Status returns the status of the overlays, the primary first.
func (p *Pair) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, len(p.sides))
	for i, s := range p.sides {
		all[i] = s.status
	}
	return all
}
