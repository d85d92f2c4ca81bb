package memberlist

import (
	"encoding/binary"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/record"
)

// maxState bounds the records of one full exchange, sent or read. Publishers
// hold certificates, so honest sets are far smaller.
const maxState = 1024

// spread is what upstream calls to spread records. Its methods run on
// upstream's goroutines and never block.
type spread struct{ o *Overlay }

var _ hashicorp.Delegate = spread{}

// NodeMeta is empty: metadata is not signed, so nothing is said in it.
func (spread) NodeMeta(int) []byte { return nil }

// NotifyMsg takes in one record.
func (d spread) NotifyMsg(b []byte) { d.o.admit(b, time.Now()) }

// GetBroadcasts returns what is to be sent along next.
func (d spread) GetBroadcasts(overhead, limit int) [][]byte {
	return d.o.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns every record that has not expired.
func (d spread) LocalState(bool) []byte {
	now := time.Now()
	var b []byte
	for i, s := range d.o.Records().All() {
		if i == maxState {
			break
		}
		if now.Before(s.Expires) {
			wire := s.Encode()
			b = binary.BigEndian.AppendUint16(b, uint16(len(wire)))
			b = append(b, wire...)
		}
	}
	return b
}

// MergeRemoteState takes in another node's LocalState. What follows the first
// broken length is lost, since nothing tells where the next record starts.
func (d spread) MergeRemoteState(b []byte, _ bool) {
	now := time.Now()
	for range maxState {
		if len(b) == 0 {
			return
		}
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			break
		}
		end := 2 + int(binary.BigEndian.Uint16(b))
		d.o.admit(b[2:end], now)
		b = b[end:]
	}
	if len(b) > 0 {
		d.o.drop(Malformed, "state of a full exchange with broken framing or too many records")
	}
}

// admit takes in one record from the network: decoded, news, believed, in this
// order. What is no news costs no signature check, which is what keeps hearing
// the same from many peers cheap; it could not have changed anything.
func (o *Overlay) admit(b []byte, now time.Time) {
	s, err := record.Decode(b)
	if err != nil {
		o.drop(Malformed, err.Error())
		return
	}
	if !o.isNews(s) {
		return
	}
	if err := o.cfg.Verifier.Verify(s, now); err != nil {
		o.drop(reasonOf(err), err.Error())
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.take(s) {
		o.enqueue(s)
	}
}

func (o *Overlay) isNews(s record.Signed) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	held, ok := o.records.Get(s.Key())
	return !ok || held.Compare(s) < 0
}

// broadcast is a record on its way. A later one of the same key replaces it.
type broadcast struct {
	key record.Key
	msg []byte
}

var _ hashicorp.NamedBroadcast = broadcast{}

func (b broadcast) Name() string    { return b.key.Name + "\x00" + b.key.Publisher }
func (b broadcast) Message() []byte { return b.msg }
func (b broadcast) Finished()       {}

func (b broadcast) Invalidates(other hashicorp.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.key == b.key
}
