package gossip_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// recorder collects events of something that runs.
type recorder struct {
	mu     sync.Mutex // guards events
	events []gossip.Event
}

func (r *recorder) emit(e gossip.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) count(match func(gossip.Event) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if match(e) {
			n++
		}
	}
	return n
}

func (r *recorder) saw(kind gossip.EventKind, parts ...string) func() bool {
	return func() bool {
		return r.count(func(e gossip.Event) bool {
			return e.Kind == kind && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(e.String(), p) })
		}) > 0
	}
}

// running runs f until the returned function is called, which gives its error.
func running(t *testing.T, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { stop() })
	return stop
}

func TestAHoldRestoresWhatAnotherWriterReplaced(t *testing.T) {
	t.Parallel()
	lab := newWeaveLab(t, 3, "")
	lab.publish(2, apiKey, "10.0.0.1")
	side := lab.side("", 0)
	changes := mustChanges(t, gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}, side)
	var seen recorder
	stop := running(t, func(ctx context.Context) error {
		return gossip.Hold(ctx, []gossip.Side{side}, gossip.Holding{Changes: changes, Within: testTimeout}, seen.emit)
	})
	lab.until(func() bool { return lab.allHold(apiKey, "10.0.0.9") })
	for _, value := range []string{"10.0.0.2", "10.0.0.3"} {
		if err := lab.nodes[1].Publish(apiKey, value); err != nil {
			t.Fatal(err)
		}
		lab.until(seen.saw(gossip.Replaced, api, "10.0.0.9 -> "+value, "node-"))
		lab.until(func() bool { return lab.allHold(apiKey, "10.0.0.9") })
	}
	// A withdrawal by another is no reason to leave nothing.
	if err := lab.nodes[1].Delete(apiKey); err != nil {
		t.Fatal(err)
	}
	lab.until(seen.saw(gossip.Replaced, "10.0.0.9 -> withdrawn"))
	lab.until(func() bool { return lab.allHold(apiKey, "10.0.0.9") })
	if err := stop(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	if !lab.allHold(apiKey, "10.0.0.9") {
		t.Error("the value went with its holder")
	}
}

func TestAHoldYieldsWhileItsAddressesDoNotAnswer(t *testing.T) {
	t.Parallel()
	w := newFakeWriter()
	changes, _, err := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}.Changes(gossip.Weave, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	synctestRun(t, func(t *testing.T) {
		w.reset()
		var seen recorder
		var dead sync.Map
		check := func(context.Context) error {
			if _, is := dead.Load("lb"); is {
				return errors.New("10.0.0.9:443 does not answer")
			}
			return nil
		}
		stop := running(t, func(ctx context.Context) error {
			return gossip.Hold(ctx, []gossip.Side{w.side()}, gossip.Holding{Changes: changes, Check: check, Within: time.Second}, seen.emit)
		})
		settle(time.Second)
		w.expect(t, "10.0.0.9")
		dead.Store("lb", true)
		settle(time.Minute)
		w.write(apiKey, legacy.Record{Value: "10.0.0.1"})
		settle(time.Hour)
		w.expect(t, "10.0.0.1")
		dead.Delete("lb")
		settle(time.Minute)
		w.expect(t, "10.0.0.9")
		if !seen.saw(gossip.HoldPaused, "does not answer")() || !seen.saw(gossip.HoldResumed)() {
			t.Errorf("events %v", seen.events)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Two who hold different values: neither wins, and neither floods the cluster.
func TestTwoHoldersBackOff(t *testing.T) {
	t.Parallel()
	synctestRun(t, func(t *testing.T) {
		w := newFakeWriter()
		changes, _, err := gossip.Publication{Name: api, Addrs: addrs("10.0.0.9")}.Changes(gossip.Weave, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var seen recorder
		stop := running(t, func(ctx context.Context) error {
			return gossip.Hold(ctx, []gossip.Side{w.side()}, gossip.Holding{Changes: changes, Within: time.Second}, seen.emit)
		})
		settle(time.Second)
		// The other has no manners: it writes at once whenever it is replaced.
		other := running(t, func(ctx context.Context) error {
			for {
				changed := w.Changed()
				if r, _ := w.get(apiKey); r.Value != "10.0.0.66" {
					w.write(apiKey, legacy.Record{Value: "10.0.0.66"})
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return nil
				}
			}
		})
		settle(time.Hour)
		writes := seen.count(func(e gossip.Event) bool { return e.Kind == gossip.Reasserted })
		if writes < 60 || writes > 75 {
			t.Errorf("%d writes in an hour, want about one a minute", writes)
		}
		if n := seen.count(func(e gossip.Event) bool { return e.Kind == gossip.Fight }); n != 1 {
			t.Errorf("told of the fight %d times, want once", n)
		}
		r, _ := w.get(apiKey)
		if ahead := int64(r.Version) - time.Now().Unix(); ahead > 5 {
			t.Errorf("the version has run %d s ahead of the clock", ahead)
		}
		if err := errors.Join(other(), stop()); err != nil {
			t.Error(err)
		}
	})
}
