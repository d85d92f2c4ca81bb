package gossip_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// fakeWriter is an overlay of one map, for tests in fake time. It keeps the
// rule of versions.
type fakeWriter struct {
	mu      sync.Mutex // guards what follows
	records map[string]legacy.Record
	changed chan struct{}
	synced  chan struct{}
	peers   []gossip.Peer
}

func newFakeWriter() *fakeWriter {
	w := &fakeWriter{}
	w.reset()
	return w
}

// reset makes the channels, which belong to the bubble that they are made in.
func (w *fakeWriter) reset() {
	w.records, w.changed, w.synced = make(map[string]legacy.Record), make(chan struct{}), make(chan struct{})
	close(w.synced)
}

func (w *fakeWriter) side() gossip.Side {
	return gossip.Side{
		Overlay: gossip.Weave,
		At:      []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3999")},
		NewLeaf: func([]netip.AddrPort) (gossip.Writer, error) { return w, nil },
	}
}

func (w *fakeWriter) write(key string, r legacy.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Version = max(uint64(time.Now().Unix()), w.records[key].Version+1)
	w.records[key] = r
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *fakeWriter) setPeers(peers ...gossip.Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peers = peers
}

func (w *fakeWriter) get(key string) (legacy.Record, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.records[key]
	return r, ok
}

func (w *fakeWriter) expect(t *testing.T, value string) {
	t.Helper()
	if r, _ := w.get(apiKey); r.Value != value {
		t.Fatalf("holds %q, want %q", r.Value, value)
	}
}

func (w *fakeWriter) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (w *fakeWriter) Synced() <-chan struct{} { return w.synced }

func (w *fakeWriter) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *fakeWriter) State() (entries []legacy.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(w.records)) {
		entries = append(entries, legacy.Entry{Key: k, Record: w.records[k]})
	}
	return entries
}

func (w *fakeWriter) Peers() []gossip.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peers
}

func (w *fakeWriter) Told(string) string { return "first told by nobody" }

func (w *fakeWriter) Put(_ context.Context, key, value string) error {
	if r, _ := w.get(key); r.Value != value || r.Tombstone {
		w.write(key, legacy.Record{Value: value})
	}
	return nil
}

func (w *fakeWriter) Delete(_ context.Context, key string) error {
	w.write(key, legacy.Record{Tombstone: true})
	return nil
}

func synctestRun(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// settle lets fake time pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
