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
	// ErrNotHeld is returned by Withdraw for a name that neither overlay holds. It
	// may still be held where nobody has been heard yet: see Synced.
	ErrNotHeld = errors.New("no overlay holds an address of that name")
	// ErrUnheard is returned by Differences as long as an overlay has heard nobody,
	// so that nothing is known of what others read there.
	ErrUnheard = errors.New("has not heard anybody yet")
)

// Entries returns the primary's whole state, tombstones included, ordered by key.
// Nothing in it is to be believed before legacy.Judge has seen it.
func (p *Pair) Entries() []legacy.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sides[0].entries()
}

// entries are those of this life and of former ones. The pair is locked.
func (s *side) entries() []legacy.Entry {
	now := s.overlay.State()
	if s.former.Len() == 0 {
		return now
	}
	var all legacy.State
	for _, entries := range [][]legacy.Entry{s.former.Entries(), now} {
		// Neither fails: both come from states.
		_, _ = all.Merge(legacy.Append(nil, entries...))
	}
	return all.Entries()
}

// Differences returns where a reader of the secondary sees something else than
// one of the primary, ordered by key. Without a secondary there are none. It
// fails with ErrUnheard as long as one of them has heard nobody.
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

// Publish makes addrs the addresses of name, in both overlays. A family of which
// there is none is withdrawn if this pair has published it. What it writes has a
// version greater than what each overlay holds, and not less than the time. The
// error says which overlay did not take it; the other has.
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

// Put makes value the record at key, in both overlays, with a version greater than
// what each holds. Where an overlay holds it already nothing is written. It is for
// who keeps one family of a name and leaves the other alone.
func (p *Pair) Put(key, value string) error {
	if _, err := legacy.ParseKey(key); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(key, legacy.Record{Value: value})
}

// Withdraw takes back all addresses of name, in both overlays, whoever published
// them. The overlays keep tombstones.
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

// addressKeys are the keys at which addresses of name may stand.
func addressKeys(name string) []string {
	return []string{
		legacy.AddressKey(name, netip.IPv4Unspecified()).String(),
		legacy.AddressKey(name, netip.IPv6Unspecified()).String(),
	}
}

// isLive reports whether a reader of one of the overlays sees a record at key. The
// pair is locked.
func (p *Pair) isLive(key string) bool {
	return slices.ContainsFunc(p.sides, func(s *side) bool {
		return slices.ContainsFunc(s.entries(), func(e legacy.Entry) bool { return e.Key == key && !e.Tombstone })
	})
}

// write writes to every overlay. One that does not run is written to when it does
// again. The pair is locked.
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

// Flush waits until what was written is on its way in both overlays, or until ctx
// ends; the error says in which one it is not. In an overlay of one it never is.
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

// Changed returns a channel that is closed when the state of an overlay changes
// next. Take the channel first and the state after, and no change is missed.
func (p *Pair) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Synced reports whether the primary has heard anybody's whole state since it was
// last started. In a cluster of one that never happens.
func (p *Pair) Synced() bool {
	return isClosed(p.current(p.sides[0]).Synced())
}

// Status returns how the overlays are doing, the primary first.
func (p *Pair) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, len(p.sides))
	for i, s := range p.sides {
		all[i] = s.status
	}
	return all
}
