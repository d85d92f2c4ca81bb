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

// maxPolled bounds the peers that are polled for whether a write has arrived: each returns its whole state, and
// gossip that has reached sixteen random peers reaches the rest.
const maxPolled = 16

// Arrival says which peers of one overlay have received a write.
type Arrival struct {
	Overlay Overlay `json:"overlay"`
	// Have are the peers that have what was written, read over separate connections. Lack answered without it; Silent
	// did not answer.
	Have   []string `json:"have"`
	Lack   []string `json:"lack"`
	Silent []string `json:"silent"`
	// Known is the number of peers in the overlay, polled or not.
	Known int `json:"known"`
}

// Write writes changes to all overlays, as a leaf of each, and polls other peers until all that answer have them, or
// the given time has passed. The error says what was not written and which peers lack what was; what was written
// stays.
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
			a, err := awaitArrival(ctx, s, mine[i], within)
			arrivals = append(arrivals, a)
			if err != nil {
				faults = append(faults, err)
			}
		}
		return joinErrors(faults)
	})
	return arrivals, err
}

// joinErrors joins errors with "; " on one line.
func joinErrors(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], joinErrors(errs[1:]))
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

// minPollDelay is how long to wait for gossip to spread before polling again; it doubles each time, up to
// visitTimeout.
const minPollDelay = 250 * time.Millisecond

// awaitArrival polls peers, our own and others, each over a new connection, until all that answer have the changes.
func awaitArrival(ctx context.Context, s Side, changes []Change, within time.Duration) (Arrival, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a := Arrival{Overlay: s.Overlay, Have: []string{}, Lack: []string{}, Silent: []string{}}
	seeds, failed := ReadAll(ctx, s.targets(), within)
	var unread []string
	for _, f := range failed {
		unread = append(unread, f.Addr.String())
	}
	polled := make(map[string]netip.AddrPort)
	known := make(map[string]bool)
	for _, v := range seeds {
		polled[v.Node] = v.Addr
	}
	for _, v := range seeds {
		for _, p := range v.Peers {
			if p.State.Gone() || p.State == Left || strings.HasPrefix(p.NickName, NodePrefix) {
				continue
			}
			known[p.ID] = true
			if p.Addr.IsValid() && len(polled) < maxPolled && !hasAddr(polled, p.Addr) {
				polled[p.Label()] = p.Addr
			}
		}
	}
	a.Known = len(known)
	for wait := minPollDelay; ; wait = min(2*wait, visitTimeout) {
		var have []string
		have, a.Lack, a.Silent = poll(ctx, s, polled, changes)
		a.Have = append(a.Have, have...)
		a.Silent = append(a.Silent, unread...)
		for _, label := range have {
			delete(polled, label) // each visit makes a real weave peer send a topology update
		}
		slices.Sort(a.Have)
		if len(a.Have) > 0 && len(a.Lack) == 0 {
			return a, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return a, fmt.Errorf("written to %s, but not everywhere after %v: %d peers have it, %s not; look with muster gossip inspect", s.Overlay, within, len(a.Have), textOrNothing(strings.Join(a.Lack, ", ")))
			}
			return a, ctx.Err()
		}
	}
}

func hasAddr(polled map[string]netip.AddrPort, addr netip.AddrPort) bool {
	for _, a := range polled {
		if a == addr {
			return true
		}
	}
	return false
}

// visitTimeout bounds a visit to one peer. One that we cannot reach must not hold up the others.
const visitTimeout = 5 * time.Second

func poll(ctx context.Context, s Side, polled map[string]netip.AddrPort, changes []Change) (have, lack, silent []string) {
	var mu sync.Mutex // guards the results
	have, lack, silent = []string{}, []string{}, []string{}
	var group sync.WaitGroup
	slots := make(chan struct{}, maxReads)
	for label, addr := range polled {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			visit, cancel := context.WithTimeout(ctx, visitTimeout)
			defer cancel()
			v, err := s.Reader.Read(visit, addr)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				silent = append(silent, label)
			case hasAll(v.State, changes):
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

// hasAll reports whether a state has all changes.
func hasAll(state []legacy.Entry, changes []Change) bool {
	for _, c := range changes {
		if !slices.ContainsFunc(state, func(e legacy.Entry) bool { return e.Key == c.Key && c.done(e.Record) }) {
			return false
		}
	}
	return true
}
