package dual

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

const (
	apiName = "api.internal.test.k8s.local"
	apiKey  = "dns/local/A/" + apiName
	apiKey6 = "dns/local/AAAA/" + apiName
)

// fake is an overlay in memory that does what the test says.
type fake struct {
	mu      sync.Mutex
	state   legacy.State
	changed chan struct{}
	synced  chan struct{}
	end     chan error // ends Run
	refuse  error      // of every write
}

func newFake() *fake {
	return &fake{changed: make(chan struct{}), synced: make(chan struct{}), end: make(chan error, 1)}
}

func (f *fake) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-f.end:
		return err
	}
}

func (f *fake) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Publish(key, value string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	_, err := f.state.Put(key, value, time.Now())
	f.tell()
	return err
}

func (f *fake) Delete(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	_, err := f.state.Delete(key, time.Now())
	f.tell()
	return err
}

func (f *fake) Flush(ctx context.Context) error {
	if isClosed(f.synced) {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) State() []legacy.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Entries()
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) Synced() <-chan struct{} { return f.synced }

// hear takes in what another peer holds.
func (f *fake) hear(t testing.TB, entries ...legacy.Entry) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.state.Merge(legacy.Append(nil, entries...)); err != nil {
		t.Fatal(err)
	}
	f.tell()
	if !isClosed(f.synced) {
		close(f.synced)
	}
}

// fakes hands out overlays.
type fakes struct {
	mu   sync.Mutex
	all  []*fake
	errs []error // of Make, one each time, if not nil
}

func (f *fakes) side(name string) Side {
	return Side{Name: name, Make: func() (Overlay, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.errs) > 0 {
			err := f.errs[0]
			f.errs = f.errs[1:]
			if err != nil {
				return nil, err
			}
		}
		f.all = append(f.all, newFake())
		return f.all[len(f.all)-1], nil
	}}
}

// failNext has the next ones not be made.
func (f *fakes) failNext(errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = errs
}

func (f *fakes) last() *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[len(f.all)-1]
}

// made is how many there were.
func (f *fakes) made() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

func newPair(t testing.TB) (p *Pair, primary, secondary *fakes) {
	t.Helper()
	primary, secondary = new(fakes), new(fakes)
	p, err := New(Config{Primary: primary.side("one"), Secondary: secondary.side("two")})
	if err != nil {
		t.Fatal(err)
	}
	return p, primary, secondary
}

// get returns the record at key, if there is one.
func get(entries []legacy.Entry, key string) (legacy.Record, bool) {
	i := slices.IndexFunc(entries, func(e legacy.Entry) bool { return e.Key == key })
	if i < 0 {
		return legacy.Record{}, false
	}
	return entries[i].Record, true
}

func entry(key, value string, version uint64) legacy.Entry {
	return legacy.Entry{Key: key, Record: legacy.Record{Value: value, Version: version}}
}
