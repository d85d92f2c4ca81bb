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

// Overlay is one of the two. Nodes of packages weave and kopsmemberlist are.
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

// Side is how one of the two is made, and made again after it has failed.
type Side struct {
	Name string // in reports
	Make func() (Overlay, error)
}

// Config says which overlays make a pair.
type Config struct {
	// Primary is read and written. Required.
	Primary Side
	// Secondary is written, and compared with the primary. None if it has no Make.
	Secondary Side
	// Logger gets what happens; nil discards it.
	Logger *slog.Logger
}

// How long an overlay that failed is left alone: doubled each time, and from the
// start again after it ran for longer than the longest.
const (
	retryFirst = time.Second
	retryLast  = time.Minute
)

// Pair runs one or two overlays. It is safe for concurrent use.
type Pair struct {
	log     *slog.Logger
	sides   []*side // the primary first
	started atomic.Bool

	mu      sync.Mutex // guards the sides' variable parts, and what follows
	own     map[string]legacy.Record
	changed chan struct{} // closed at the next change
}

// side is one overlay through all its lives. All but the first two fields are
// guarded by the pair's mu.
type side struct {
	Side
	secondary bool
	overlay   Overlay      // of this life, or of the last
	former    legacy.State // what former lives heard
	status    Status
}

// Status is how one overlay is doing.
type Status struct {
	Name     string
	Err      error     // why it does not run; nil while it does
	Since    time.Time // of Err being what it is
	Failures int       // since the start
}

// New makes the overlays, which do nothing until Run. They may be written to
// before.
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

// Run runs the overlays until ctx ends, and returns when all that it has started
// has ended. One that fails is tried again; see Status. The error is nil. It can
// be called once.
func (p *Pair) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("run gossip: it has run before")
	}
	var all errgroup.Group
	for _, s := range p.sides {
		all.Go(func() error {
			p.keep(ctx, s)
			return nil
		})
	}
	return all.Wait()
}

// keep runs one overlay, again and again until ctx ends.
func (p *Pair) keep(ctx context.Context, s *side) {
	wait := retryFirst
	overlay, renewed := p.current(s), false
	var err error
	for {
		start := time.Now()
		if err == nil {
			err = p.runOnce(ctx, s, overlay, renewed)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		if time.Since(start) > retryLast {
			wait = retryFirst
		}
		p.fail(s, err, wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLast)
		overlay, err = p.renew(s)
		renewed = true
	}
}

func (p *Pair) current(s *side) Overlay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.overlay
}

// runOnce runs an overlay and passes its changes on.
func (p *Pair) runOnce(ctx context.Context, s *side, overlay Overlay, renewed bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		synced := overlay.Synced()
		if !renewed {
			synced = nil
		}
		for {
			changed := overlay.Changed()
			select {
			case <-ctx.Done():
				return
			case <-changed:
				p.tellChanged()
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

func (p *Pair) tellChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// fail notes that an overlay does not run.
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

// renew makes an overlay anew and keeps what the former one had heard.
func (p *Pair) renew(s *side) (Overlay, error) {
	overlay, err := s.Make()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := s.former.Merge(legacy.Append(nil, s.overlay.State()...)); err != nil {
		return nil, fmt.Errorf("keep what was heard: %w", err)
	}
	s.overlay = overlay
	s.status.Err, s.status.Since = nil, time.Now()
	p.log.Info("gossip overlay made anew", "overlay", s.Name, "secondary", s.secondary)
	return overlay, nil
}

// restore writes to an overlay that was made anew, and has heard what others hold,
// what we wrote and nobody has written over since.
func (p *Pair) restore(s *side, overlay Overlay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	versions := make(map[string]uint64)
	for _, e := range overlay.State() {
		versions[e.Key] = e.Version
	}
	for key, want := range p.own {
		ours, _ := s.former.Get(key)
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
