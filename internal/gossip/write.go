package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// askedMost bounds the peers that are asked whether a write has arrived: each
// answers with all that it knows, and gossip that has reached sixteen peers
// drawn from all reaches the rest.
const askedMost = 16

// Arrival says how far a write has come in one overlay.
type Arrival struct {
	Overlay Overlay `json:"overlay"`
	// Have are the peers that hold what was written, asked over connections of
	// their own. Lack answered without it; Silent did not answer.
	Have   []string `json:"have"`
	Lack   []string `json:"lack"`
	Silent []string `json:"silent"`
	// Known is the number of peers in the overlay, asked or not.
	Known int `json:"known"`
}

// Write writes changes to all overlays, as a leaf of each, and asks other peers
// until all that answer have them, or until the given time has passed. The error
// says what was not written and who lacks what was; what was written stays.
func Write(ctx context.Context, sides []Side, changes []Change, within time.Duration) ([]Arrival, error) {
	var arrivals []Arrival
	err := withLeaves(ctx, sides, within, func(ctx context.Context, leaves []Writer) error {
		mine := make([][]Change, len(sides))
		var faults []error
		for i, s := range sides {
			mine[i] = slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Overlay != s.Overlay })
			if err := put(ctx, leaves[i], mine[i], within); err != nil {
				faults = append(faults, fmt.Errorf("write to %s: %w", s.Overlay, err))
				mine[i] = nil
			}
		}
		for i, s := range sides {
			if len(mine[i]) == 0 {
				continue
			}
			a, err := arrived(ctx, s, mine[i], within)
			arrivals = append(arrivals, a)
			if err != nil {
				faults = append(faults, err)
			}
		}
		return inOneLine(faults)
	})
	return arrivals, err
}

// inOneLine joins errors.
func inOneLine(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], inOneLine(errs[1:]))
}

func put(ctx context.Context, leaf Writer, changes []Change, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, c := range changes {
		var err error
		if c.tombstone {
			err = leaf.Delete(ctx, c.Key)
		} else {
			err = leaf.Put(ctx, c.Key, c.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// askAgain is how long to wait for gossip to spread before asking again; each
// time twice as long.
const askAgain = 250 * time.Millisecond

// arrived asks peers, those we connect through and others, each over a new
// connection, until everyone who answers has the changes.
func arrived(ctx context.Context, s Side, changes []Change, within time.Duration) (Arrival, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a := Arrival{Overlay: s.Overlay, Have: []string{}, Lack: []string{}, Silent: []string{}}
	seeds, failed := ReadAll(ctx, s.targets(), within)
	var mute []string
	for _, f := range failed {
		mute = append(mute, f.Addr.String())
	}
	ask := make(map[string]netip.AddrPort)
	known := make(map[string]bool)
	for _, v := range seeds {
		ask[v.Node] = v.Addr
	}
	for _, v := range seeds {
		for _, p := range v.Peers {
			if p.State.Gone() || p.State == Left || strings.HasPrefix(p.NickName, NodePrefix) {
				continue
			}
			known[p.ID] = true
			if p.Addr.IsValid() && len(ask) < askedMost && !hasAddr(ask, p.Addr) {
				ask[p.Label()] = p.Addr
			}
		}
	}
	a.Known = len(known)
	for wait := askAgain; ; wait = min(2*wait, askFor) {
		var have []string
		have, a.Lack, a.Silent = poll(ctx, s, ask, changes)
		a.Have = append(a.Have, have...)
		a.Silent = append(a.Silent, mute...)
		for _, label := range have {
			delete(ask, label) // each visit costs a peer of the original an update of the topology
		}
		slices.Sort(a.Have)
		if len(a.Have) > 0 && len(a.Lack) == 0 {
			return a, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return a, fmt.Errorf("written to %s, but not everywhere after %v: %d peers have it, %s not; look with muster gossip inspect", s.Overlay, within, len(a.Have), orNothing(strings.Join(a.Lack, ", ")))
			}
			return a, ctx.Err()
		}
	}
}

func hasAddr(ask map[string]netip.AddrPort, addr netip.AddrPort) bool {
	for _, a := range ask {
		if a == addr {
			return true
		}
	}
	return false
}

// askFor is how long one peer may take to answer. One that is not open to us
// must not hold up the others.
const askFor = 5 * time.Second

func poll(ctx context.Context, s Side, ask map[string]netip.AddrPort, changes []Change) (have, lack, silent []string) {
	var mu sync.Mutex // guards the results
	have, lack, silent = []string{}, []string{}, []string{}
	var group sync.WaitGroup
	room := make(chan struct{}, readAtOnce)
	for label, addr := range ask {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			visit, cancel := context.WithTimeout(ctx, askFor)
			defer cancel()
			v, err := s.Reader.Read(visit, addr)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				silent = append(silent, label)
			case holds(v.State, changes):
				have = append(have, label)
			default:
				lack = append(lack, label)
			}
		})
	}
	group.Wait()
	slices.Sort(have)
	slices.Sort(lack)
	slices.Sort(silent)
	return have, lack, silent
}

// holds reports whether a state says what the changes want it to.
func holds(state []legacy.Entry, changes []Change) bool {
	for _, c := range changes {
		if !slices.ContainsFunc(state, func(e legacy.Entry) bool { return e.Key == c.Key && c.done(e.Record) }) {
			return false
		}
	}
	return true
}
