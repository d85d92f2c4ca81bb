package memberlist

import (
	"encoding/binary"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/record"
)

// maxState bounds the records of one full exchange, sent or received. Publishers hold certificates, so honest sets
// are far smaller.
const maxState = 1024

// delegate is upstream's delegate for records. Its methods run on upstream's goroutines and never block.
type delegate struct{ o *Overlay }

var _ hashicorp.Delegate = delegate{}

// NodeMeta returns nothing: metadata is not signed, so it is not used.
func (delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg receives one record.
func (d delegate) NotifyMsg(b []byte) { d.o.receive(b, time.Now()) }

// GetBroadcasts returns the messages to send next.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.o.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns every record that has not expired.
func (d delegate) LocalState(bool) []byte {
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

// MergeRemoteState receives another node's LocalState. Everything after the first invalid length is lost, because
// nothing tells where the next record starts.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	now := time.Now()
	for range maxState {
		if len(b) == 0 {
			return
		}
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			break
		}
		end := 2 + int(binary.BigEndian.Uint16(b))
		d.o.receive(b[2:end], now)
		b = b[end:]
	}
	if len(b) > 0 {
		d.o.drop(Malformed, "state of a full exchange with broken framing or too many records")
	}
}

// receive handles one record from the network. It is decoded, compared and verified, in this order: a record that is
// not newer could change nothing, so it costs no signature check, and receiving the same record from many peers is
// cheap.
func (o *Overlay) receive(b []byte, now time.Time) {
	s, err := record.Decode(b)
	if err != nil {
		o.drop(Malformed, err.Error())
		return
	}
	if !o.isNewer(s) {
		return
	}
	if err := o.cfg.Verifier.Verify(s, now); err != nil {
		o.drop(reasonOf(err), err.Error())
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.add(s) {
		o.enqueue(s)
	}
}

func (o *Overlay) isNewer(s record.Signed) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	held, ok := o.records.Get(s.Key())
	return !ok || held.Compare(s) < 0
}

// broadcast is a queued record. A later one of the same key replaces it.
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
