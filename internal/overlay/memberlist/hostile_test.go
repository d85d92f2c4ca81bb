package memberlist

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

// intruder is upstream without any of this package's checks: a member that holds
// the key and says whatever it likes.
type intruder struct {
	ml    *hashicorp.Memberlist
	state atomic.Pointer[[]byte] // what it says in full exchanges
}

func (*intruder) NodeMeta(int) []byte             { return nil }
func (*intruder) NotifyMsg([]byte)                {}
func (*intruder) GetBroadcasts(_, _ int) [][]byte { return nil }
func (i *intruder) LocalState(bool) []byte        { return *i.state.Load() }
func (*intruder) MergeRemoteState([]byte, bool)   {}

// intrude joins an intruder to the first node.
func (c *cluster) intrude(state []byte) *intruder {
	c.t.Helper()
	key, err := base64.StdEncoding.DecodeString(key1)
	if err != nil {
		c.t.Fatal(err)
	}
	i := &intruder{}
	i.state.Store(&state)
	cfg := hashicorp.DefaultLANConfig()
	cfg.Name, cfg.Label, cfg.SecretKey = "intruder", clusterName, key
	cfg.Transport, cfg.Delegate = c.fabric.Open(addrOf(200)), i
	cfg.DelegateProtocolMin, cfg.DelegateProtocolMax, cfg.DelegateProtocolVersion = 1, 1, 1
	cfg.LogOutput = &bytes.Buffer{}
	if i.ml, err = hashicorp.Create(cfg); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := i.ml.Shutdown(); err != nil {
			c.t.Error(err)
		}
		time.Sleep(10 * time.Second)
	})
	if _, err := i.ml.Join([]string{addrOf(0).String()}); err != nil {
		c.t.Fatal(err)
	}
	return i
}

// say sends b to each peer once, as gossip.
func (i *intruder) say(t *testing.T, peers []*peer, b []byte) {
	t.Helper()
	for _, p := range peers {
		if err := i.ml.SendToAddress(hashicorp.Address{Addr: p.addr.String(), Name: p.cfg.Node}, b); err != nil {
			t.Fatal(err)
		}
	}
}

// framed is a full exchange's state that holds b.
func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func TestWhatIsNotBelievedIsCountedEverywhereAndPassedOnByNobody(t *testing.T) {
	network := netip.MustParsePrefix("172.20.0.0/16")
	good := func() record.Record {
		return record.Record{
			Name: apiName, Publisher: "cp-0", Addrs: []netip.AddrPort{netip.MustParseAddrPort("172.20.6.6:443")},
			Clock: record.ClockAt(time.Now()), Expires: time.Now().Add(time.Minute),
		}
	}
	say := func(t *testing.T, n recordtest.Node, change func(*record.Record)) []byte {
		r := good()
		change(&r)
		return n.Sign(t, r).Encode()
	}
	tests := []struct {
		name string
		want string
		wire func(*testing.T, *recordtest.CA) []byte
	}{
		{"a worker publishes the control plane's name", record.ErrIdentity.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			n := ca.Issue(t, identity.Identity{Cluster: clusterName, Role: identity.Worker, Node: "cp-0"})
			return say(t, n, func(*record.Record) {})
		}},
		{"a control-plane node publishes for another", record.ErrIdentity.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			return say(t, ca.ControlPlane(t, clusterName, "cp-1"), func(*record.Record) {})
		}},
		{"another authority's node publishes", record.ErrIdentity.Error(), func(t *testing.T, _ *recordtest.CA) []byte {
			return say(t, recordtest.NewCA(t).ControlPlane(t, clusterName, "cp-0"), func(*record.Record) {})
		}},
		{"a name that is not the cluster's", record.ErrName.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			return say(t, ca.ControlPlane(t, clusterName, "cp-0"), func(r *record.Record) { r.Name = "www.example.com" })
		}},
		{"an address outside the networks", record.ErrNetwork.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			return say(t, ca.ControlPlane(t, clusterName, "cp-0"), func(r *record.Record) { r.Addrs[0] = netip.MustParseAddrPort("8.8.8.8:443") })
		}},
		{"a clock from the future", record.ErrFuture.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			return say(t, ca.ControlPlane(t, clusterName, "cp-0"), func(r *record.Record) { r.Clock = record.ClockAt(time.Now().Add(time.Hour)) })
		}},
		{"a record that has expired", record.ErrExpired.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			return say(t, ca.ControlPlane(t, clusterName, "cp-0"), func(r *record.Record) { r.Expires = time.Now() })
		}},
		{"a signature with a flipped bit", record.ErrSignature.Error(), func(t *testing.T, ca *recordtest.CA) []byte {
			b := say(t, ca.ControlPlane(t, clusterName, "cp-0"), func(*record.Record) {})
			b[len(b)-1] ^= 1
			return b
		}},
		{"noise", Malformed, func(*testing.T, *recordtest.CA) []byte { return []byte("noise") }},
		{"a record longer than a record can be", Malformed, func(*testing.T, *recordtest.CA) []byte { return make([]byte, record.MaxEncoded+1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				for i := range 3 {
					cfg := c.config(fmt.Sprintf("cp-%d", i), addrOf(i))
					cfg.Verifier.Networks = []netip.Prefix{network}
					c.start(cfg)
				}
				c.meet(c.peers)
				wire := tt.wire(t, c.ca)
				i := c.intrude(framed(wire))
				check := func(how string, want func(*peer) uint64) {
					t.Helper()
					for _, p := range c.peers {
						got := p.Stats()
						for reason, n := range got.Dropped {
							var w uint64
							if reason == tt.want {
								w = want(p)
							}
							if n != w {
								t.Errorf("%s: %s dropped %d times %q, want %d", how, p.cfg.Node, n, reason, w)
							}
						}
						if got.Records != 0 || got.Queued != 0 {
							t.Errorf("%s: %s holds %d records and spreads %d, want none", how, p.cfg.Node, got.Records, got.Queued)
						}
					}
				}
				synctest.Wait()
				atFirst := func(p *peer) uint64 {
					if p == c.peers[0] {
						return 1
					}
					return 0
				}
				check("in a full exchange with one node", atFirst)
				i.state.Store(new([]byte))
				time.Sleep(time.Second)
				i.say(t, c.peers, wire)
				time.Sleep(time.Second)
				check("as gossip to each node", func(p *peer) uint64 { return atFirst(p) + 1 })
			})
		})
	}
}

func TestAReplayedOldRecordChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		peers := c.startN(3)
		c.meet(peers)
		old := peers[0].publish("172.20.0.4:443")
		time.Sleep(time.Second)
		withdrawn := peers[0].publish()
		c.until(time.Second, "all hold the withdrawal", func() bool { return all(peers, func(p *peer) bool { return p.holds(withdrawn) }) })
		time.Sleep(5 * time.Second)
		i := c.intrude(framed(old.Encode()))
		i.say(t, peers, old.Encode())
		time.Sleep(time.Second)
		for _, p := range peers {
			records := p.Records()
			if !p.holds(withdrawn) || len(records.Resolve(apiName, time.Now())) != 0 {
				t.Errorf("%s took the old record", p.cfg.Node)
			}
			if got := p.Stats().Queued; got != 0 {
				t.Errorf("%s spreads %d records", p.cfg.Node, got)
			}
		}
		// Past its expiry it is refused even by who has forgotten the withdrawal.
		time.Sleep(2 * time.Minute)
		i.say(t, peers, old.Encode())
		time.Sleep(time.Second)
		for _, p := range peers {
			if got := p.Stats(); got.Records != 0 || got.Dropped[record.ErrExpired.Error()] == 0 {
				t.Errorf("%s after expiry: %+v", p.cfg.Node, got)
			}
		}
	})
}

func TestBrokenStatesAreCountedOnce(t *testing.T) {
	o, id := offline(t)
	good := framed(id.Sign(t, fresh()).Encode())
	many := bytes.Repeat(good, maxState+1)
	tests := []struct {
		name        string
		state       []byte
		wantDropped uint64
		wantRecords int
	}{
		{"nothing", nil, 0, 0},
		{"one record", good, 0, 1},
		{"a length without a record", good[:2], 1, 0},
		{"half a length", good[:1], 1, 0},
		{"a record cut off", good[:len(good)-1], 1, 0},
		{"a good record before a broken one", append(append([]byte(nil), good...), 0xff, 0xff, 0), 1, 1},
		{"noise between good records", append(append(framed([]byte("noise")), good...), framed(nil)...), 2, 1},
		{"as many records as there can be", many[:len(good)*maxState], 0, 1},
		{"one more than that", many, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o.records, o.drops = record.Set{}, dropCounter{}
			delegate{o}.MergeRemoteState(tt.state, false)
			if got := o.Stats(); got.Dropped[Malformed] != tt.wantDropped || got.Records != tt.wantRecords {
				t.Errorf("got %d dropped and %d records, want %d and %d", got.Dropped[Malformed], got.Records, tt.wantDropped, tt.wantRecords)
			}
		})
	}
}
