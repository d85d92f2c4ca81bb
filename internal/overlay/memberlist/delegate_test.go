package memberlist

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

// offline returns an overlay of node cp-0 that does not run, and the node's
// certificate.
func offline(t testing.TB) (*Overlay, recordtest.Node) {
	t.Helper()
	ca := recordtest.NewCA(t)
	path := filepath.Join(t.TempDir(), "gossip.key")
	writeKeys(t, path, key1)
	o, err := New(Config{Cluster: clusterName, Node: "cp-0", Keyring: path, Verifier: ca.Verifier(clusterName, apiName)})
	if err != nil {
		t.Fatal(err)
	}
	return o, ca.ControlPlane(t, clusterName, "cp-0")
}

// fresh is a record that cp-0 could publish now.
func fresh() record.Record {
	return record.Record{
		Name: apiName, Publisher: "cp-0", Addrs: []netip.AddrPort{netip.MustParseAddrPort("172.20.0.4:443")},
		Clock: record.ClockAt(time.Now()), Expires: time.Now().Add(5 * time.Minute),
	}
}

// believed fails unless everything that o holds is believed, and unless another
// node that is sent o's state comes to hold the same.
func believed(t *testing.T, o, other *Overlay) {
	t.Helper()
	for _, s := range o.Records().All() {
		if err := o.cfg.Verifier.Verify(s, time.Now()); err != nil {
			t.Errorf("holds what it does not believe: %v", err)
		}
	}
	other.records = record.Set{}
	delegate{other}.MergeRemoteState(delegate{o}.LocalState(true), true)
	if !other.Records().Equal(o.Records()) {
		t.Error("the state sent is not the state held")
	}
	for _, b := range (delegate{o}).GetBroadcasts(3, packetSize) {
		if _, err := record.Decode(b); err != nil {
			t.Errorf("passes on what does not decode: %v", err)
		}
	}
}

func FuzzNotifyMsg(f *testing.F) {
	o, id := offline(f)
	other, _ := offline(f)
	other.cfg.Verifier = o.cfg.Verifier
	f.Add(id.Sign(f, fresh()).Encode())
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o.records = record.Set{}
		var before, after uint64
		for _, n := range o.drops.counts() {
			before += n
		}
		delegate{o}.NotifyMsg(b)
		for _, n := range o.drops.counts() {
			after += n
		}
		if taken := o.Records().Len(); uint64(taken)+after-before != 1 {
			t.Errorf("one message: %d records taken, %d dropped", taken, after-before)
		}
		believed(t, o, other)
	})
}

func FuzzMergeRemoteState(f *testing.F) {
	o, id := offline(f)
	other, _ := offline(f)
	other.cfg.Verifier = o.cfg.Verifier
	one := framed(id.Sign(f, fresh()).Encode())
	withdrawal := fresh()
	withdrawal.Addrs = nil
	f.Add(append(one, framed(id.Sign(f, withdrawal).Encode())...))
	f.Add(one[:len(one)-1])
	f.Add(append(framed(nil), one...))
	f.Add([]byte{0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		o.records = record.Set{}
		delegate{o}.MergeRemoteState(b, false)
		if got := o.Records().Len(); got > len(b)/2 {
			t.Errorf("%d bytes gave %d records", len(b), got)
		}
		believed(t, o, other)
	})
}

// A record as large as any, under a cluster name as long as any, must fit into
// one packet, or it would wait in the queue for ever.
func TestTheLargestRecordFitsAPacket(t *testing.T) {
	o, _ := offline(t)
	o.cfg.Cluster = strings.Repeat("c", maxCluster)
	largest := broadcast{key: record.Key{Name: apiName, Publisher: "cp-0"}, msg: make([]byte, record.MaxEncoded)}
	o.queue.QueueBroadcast(largest)
	// As upstream computes it: header, label, encryption; then per message.
	avail := packetSize - 2 - (2 + len(o.cfg.Cluster)) - 29
	if got := (delegate{o}).GetBroadcasts(2+1, avail); len(got) != 1 {
		t.Errorf("%d records fit, want 1", len(got))
	}
	o.queue.QueueBroadcast(largest)
	if got := (delegate{o}).GetBroadcasts(2+1, avail-1); len(got) != 0 {
		t.Error("room is left over: the limit on names is too low")
	}
}

func TestALaterRecordTakesTheQueuesPlace(t *testing.T) {
	o, id := offline(t)
	first := fresh()
	second := first
	second.Clock = first.Clock.Next(first.Clock.Time())
	for _, r := range []record.Record{first, second} {
		if err := o.Publish(id.Sign(t, r)); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.Stats().Queued; got != 1 {
		t.Fatalf("queued: got %d, want 1", got)
	}
	s, err := record.Decode((delegate{o}).GetBroadcasts(3, packetSize)[0])
	if err != nil {
		t.Fatal(err)
	}
	if s.Clock != second.Clock {
		t.Errorf("queued is the record at %s, want %s", s.Clock, second.Clock)
	}
}

// Gossip brings each record many times over; only its first coming may cost a
// signature check.
func BenchmarkHearing(b *testing.B) {
	o, id := offline(b)
	wire := id.Sign(b, fresh()).Encode()
	b.Run("news", func(b *testing.B) {
		for b.Loop() {
			o.records = record.Set{}
			delegate{o}.NotifyMsg(wire)
		}
	})
	b.Run("the same again", func(b *testing.B) {
		for b.Loop() {
			delegate{o}.NotifyMsg(wire)
		}
	})
}
