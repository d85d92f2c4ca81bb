package dual

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Overlay is one of the two. The nodes of packages weave and kopsmemberlist implement it.
type Overlay interface {
	// Run takes part until ctx ends. It is called once.
	Run(ctx context.Context) error
	reader
	writer
}

type reader interface {
	State() []legacy.Entry
	Changed() <-chan struct{}
	Synced() <-chan struct{}
}

type writer interface {
	Publish(key, value string) error
	Delete(key string) error
	Flush(ctx context.Context) error
}

// Side creates one of the two overlays, again after each failure.
type Side struct {
	Name string // in reports
	Make func() (Overlay, error)
}

// Config configures a pair.
type Config struct {
	// Primary is read and written. Required.
	Primary Side
	// Secondary is written, and compared with the primary. No secondary if Make is nil.
	Secondary Side
	// Logger gets failures and restarts; nil discards.
	Logger *slog.Logger
}

// How long to wait before an overlay that failed is started again: doubled each time, and reset once it has run for
// longer than maxBackoff.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// Pair runs one or two overlays. It is safe for concurrent use.
type Pair struct {
	log     *slog.Logger
	sides   []*side // the primary first
	started atomic.Bool

	mu      sync.Mutex // guards the variable fields of sides, and the fields below
	own     map[string]legacy.Record
	changed chan struct{} // closed at the next change
}

// side is one overlay with its successive instances. Fields from overlay on are guarded by the pair's mu.
type side struct {
	Side
	secondary bool
	overlay   Overlay      // the current instance, or the last
	previous  legacy.State // state of earlier instances
	status    Status
}

// Status is the status of one overlay.
type Status struct {
	Name     string
	Err      error     // nil while it runs
	Since    time.Time // when Err took its value
	Failures int       // since the start
}

// New creates the overlays, which do nothing until Run but may be written to.
func New(cfg Config) (*Pair, error) {
	if cfg.Primary.Make == nil {
		return nil, errors.New("configure gossip: no primary overlay")
	}
	p := &Pair{log: cfg.Logger, own: make(map[string]legacy.Record), changed: make(chan struct{})}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	for i, s := range []Side{cfg.Primary, cfg.Secondary} {
		if s.Make == nil {
			continue
		}
		overlay, err := s.Make()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s overlay: %w", s.Name, err))
			continue
		}
		p.sides = append(p.sides, &side{Side: s, secondary: i > 0, overlay: overlay, status: Status{Name: s.Name, Since: time.Now()}})
	}
	return p, errors.Join(errs...)
}

// Run runs the overlays until ctx ends and all of them have ended. An overlay that fails is restarted; see Status. It
// returns an error only if it was called before.
func (p *Pair) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("run gossip: it has run before")
	}
	var group errgroup.Group
	for _, s := range p.sides {
		group.Go(func() error {
			p.runSide(ctx, s)
			return nil
		})
	}
	return group.Wait()
}

// runSide runs one overlay, restarting it, until ctx ends.
func (p *Pair) runSide(ctx context.Context, s *side) {
	wait := minBackoff
	overlay, recreated := p.current(s), false
	var err error
	for {
		start := time.Now()
		if err == nil {
			err = p.runOnce(ctx, s, overlay, recreated)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		if time.Since(start) > maxBackoff {
			wait = minBackoff
		}
		p.fail(s, err, wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxBackoff)
		overlay, err = p.recreate(s)
		recreated = true
	}
}

func (p *Pair) current(s *side) Overlay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.overlay
}

// runOnce runs an overlay until it or ctx ends, and forwards its changes.
func (p *Pair) runOnce(ctx context.Context, s *side, overlay Overlay, recreated bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		synced := overlay.Synced()
		if !recreated {
			synced = nil
		}
		for {
			changed := overlay.Changed()
			select {
			case <-ctx.Done():
				return
			case <-changed:
				p.notify()
			case <-synced:
				synced = nil
				p.restore(s, overlay)
			}
		}
	})
	err := overlay.Run(ctx)
	stop()
	watch.Wait()
	return err
}

func (p *Pair) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// fail records and logs that an overlay does not run.
func (p *Pair) fail(s *side, err error, wait time.Duration) {
	p.mu.Lock()
	level := slog.LevelWarn
	if before := s.status.Err; before == nil {
		s.status.Since = time.Now()
	} else if before.Error() == err.Error() {
		level = slog.LevelDebug
	}
	s.status.Err = err
	s.status.Failures++
	p.mu.Unlock()
	p.log.Log(context.Background(), level, "gossip overlay does not run; trying again", "overlay", s.Name, "secondary", s.secondary, "error", err, "in", wait)
}

// recreate creates a new instance of an overlay, and keeps the state of the old one.
func (p *Pair) recreate(s *side) (Overlay, error) {
	overlay, err := s.Make()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := s.previous.Merge(legacy.Append(nil, s.overlay.State()...)); err != nil {
		return nil, fmt.Errorf("keep what was heard: %w", err)
	}
	s.overlay = overlay
	s.status.Err, s.status.Since = nil, time.Now()
	p.log.Info("gossip overlay made anew", "overlay", s.Name, "secondary", s.secondary)
	return overlay, nil
}

// restore writes our records to a new instance that has received a peer's state, except those that another writer has
// replaced since.
func (p *Pair) restore(s *side, overlay Overlay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	versions := make(map[string]uint64)
	for _, e := range overlay.State() {
		versions[e.Key] = e.Version
	}
	for key, want := range p.own {
		ours, _ := s.previous.Get(key)
		if ours.Value != want.Value || ours.Tombstone != want.Tombstone || versions[key] > ours.Version {
			continue
		}
		if err := write(overlay, key, want); err != nil {
			p.log.Warn("a record of ours could not be written again", "overlay", s.Name, "key", key, "error", err)
		}
	}
}

func write(o writer, key string, r legacy.Record) error {
	if r.Tombstone {
		return o.Delete(key)
	}
	return o.Publish(key, r.Value)
}
