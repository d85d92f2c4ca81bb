package kopsmemberlist

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// The member of the captures in part D4 of the specification. Its name stands
// packed in the captured answer.
const capturedName = "01M82YE65KQTKV9P89H684WTWS"

var capturedAddr = netip.MustParseAddrPort("127.0.0.1:14070")

func unhex(t testing.TB, dumps ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(dumps, "")), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rawMember is one that says what the test makes it say, and nothing else.
type rawMember struct {
	t    *testing.T
	name string
	addr netip.AddrPort
	net  hashicorp.Transport
}

func (lab *lab) raw(name string, addr netip.AddrPort) *rawMember {
	return &rawMember{t: lab.t, name: name, addr: addr, net: lab.fabric.Open(addr)}
}

// nameHex is the member's name of 26 characters as a field's value.
func (r *rawMember) nameHex() string { return "ba" + hex.EncodeToString([]byte(r.name)) }

func (r *rawMember) packet(to netip.AddrPort, dumps ...string) {
	r.t.Helper()
	if _, err := r.net.WriteTo(unhex(r.t, dumps...), to.String()); err != nil {
		r.t.Fatal(err)
	}
}

// next waits for a message that is want, alone in a packet or among others, and
// reports whether the packet had a sum, which has to be right.
func (r *rawMember) next(want []byte) (withSum bool) {
	r.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case p := <-r.net.PacketCh():
			message := p.Buf
			withSum = message[0] == 12
			if withSum {
				if sum := binary.BigEndian.Uint32(message[1:]); sum != crc32.ChecksumIEEE(message[5:]) {
					r.t.Fatalf("packet with a wrong sum: %x", message)
				}
				message = message[5:]
			}
			if slices.ContainsFunc(unbundle(message), func(m []byte) bool { return bytes.Equal(m, want) }) {
				return withSum
			}
		case <-limit:
			r.t.Fatalf("never sent: %x", want)
		}
	}
}

// unbundle returns the messages of a compound one.
func unbundle(message []byte) (all [][]byte) {
	if message[0] != 7 {
		return [][]byte{message}
	}
	count := int(message[1])
	sizes, body := message[2:2+2*count], message[2+2*count:]
	for i := range count {
		size := binary.BigEndian.Uint16(sizes[2*i:])
		all, body = append(all, body[:size]), body[size:]
	}
	return all
}

// join becomes a member by a push/pull in which it names itself.
func (r *rawMember) join(to netip.AddrPort) {
	r.t.Helper()
	addr := r.addr.Addr().As4()
	r.exchange(to, unhex(r.t, `06 83 a44a6f696e c3 a54e6f646573 01 ac5573657253746174654c656e 00
		87 a441646472 a4`, hex.EncodeToString(addr[:]), ` ab496e6361726e6174696f6e 01 a44d657461 a0 a44e616d65 `, r.nameHex(),
		` a4506f7274 cd`, fmt.Sprintf("%04x", r.addr.Port()), ` a55374617465 00 a356736e a6 010502000000`))
	time.Sleep(10 * time.Millisecond) // it is taken in after the answer
}

// exchange says something over TCP and returns the answer.
func (r *rawMember) exchange(to netip.AddrPort, said []byte) wire.Exchange {
	r.t.Helper()
	conn, err := r.net.DialTimeout(to.String(), time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(said)
		written <- err
	}()
	x, err := wire.ReadExchange(conn)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := <-written; err != nil {
		r.t.Fatal(err)
	}
	return x
}

func TestTheCapturedPingIsAnsweredByteForByte(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		cfg := lab.config(0)
		cfg.NodeName = capturedName
		lab.start(cfg)
		raw := lab.raw(capturedName, capturedAddr)
		time.Sleep(time.Second)
		raw.packet(addrOf(0), `00 85 a44e6f6465 `, raw.nameHex(), ` a55365714e6f 01 aa536f7572636541646472 a47f000001 aa536f757263654e6f6465 `, raw.nameHex(), ` aa536f75726365506f7274 cd36f6`)
		if withSum := raw.next(unhex(t, `02 82 a75061796c6f6164 a0 a55365714e6f 01`)); withSum {
			t.Error("an ack has a sum")
		}
	})
}

func TestGossipIsReadAndSentAsCaptured(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		p := lab.start(lab.config(0))
		raw := lab.raw(capturedName, capturedAddr)
		time.Sleep(time.Second)
		raw.join(addrOf(0))

		heard := legacy.Entry{Key: apiKey, Record: legacy.Record{Value: "10.0.0.1", Version: 1795395362}}
		state := legacy.Append(nil, heard)
		message := fmt.Sprintf("08 0a03 646e73 12%02x %x", len(state), state)
		raw.packet(addrOf(0), fmt.Sprintf("0c %08x ", crc32.ChecksumIEEE(unhex(t, message))), message)
		lab.until(time.Second, "what was gossiped is held", func() bool { return p.holds(apiKey, "10.0.0.1") })
		raw.packet(addrOf(0), "0c 00000000 08 0a03 646e73 1205 0a030a0178") // its sum is wrong
		time.Sleep(time.Second)
		if n := len(p.State()); n != 1 {
			t.Errorf("%d records after a packet with a wrong sum", n)
		}

		p.publish(t, apiKey, "10.0.0.2")
		state = legacy.Append(nil, p.State()...)
		if withSum := raw.next(unhex(t, fmt.Sprintf("08 0a03 646e73 12%02x %x", len(state), state))); !withSum {
			t.Error("gossip has no sum")
		}
	})
}

func TestTheCapturedLeaveIsObeyed(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		p := lab.start(lab.config(0))
		raw := lab.raw(capturedName, capturedAddr)
		time.Sleep(time.Second)
		raw.join(addrOf(0))
		if !p.sees(capturedAddr) {
			t.Fatal("not a member")
		}
		leave := "05 83 a446726f6d " + raw.nameHex() + " ab496e6361726e6174696f6e 01 a44e6f6465 " + raw.nameHex()
		raw.packet(addrOf(0), fmt.Sprintf("0c %08x ", crc32.ChecksumIEEE(unhex(t, leave))), leave)
		lab.until(time.Second, "it left", func() bool { return !p.sees(capturedAddr) })
	})
}

func TestTheCapturedRequestIsAnsweredWithEverythingAndMakesNoMember(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		p := lab.start(lab.config(0))
		p.publish(t, legacy.MarkerKey, legacy.MarkerValue)
		time.Sleep(time.Second)
		raw := lab.raw(capturedName, capturedAddr)
		got := raw.exchange(addrOf(0), unhex(t, `06 83 a44a6f696e c2 a54e6f646573 00 ac5573657253746174654c656e 2e
			0a2c 0a03 646e73 1225 0a23 0a0f 646e732f6c6f63616c2f412f726177 1210 0a08 31302e322e322e32 18 a29e8ed806`))
		if len(got.Members) != 1 || got.Members[0].Addr != addrOf(0) || got.Join {
			t.Errorf("answered %+v", got)
		}
		lab.until(time.Second, "what was said is held", func() bool { return p.holds("dns/local/A/raw", "10.2.2.2") })
		if n := p.Stats().Members; n != 1 {
			t.Errorf("%d members, want 1", n)
		}
	})
}

// A member that says what it likes changes nothing for the others.
func TestAMalformedMemberIsDroppedAndTheRestGoesOn(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		peers := lab.startN(3)
		raw := lab.raw(capturedName, capturedAddr)
		raw.join(addrOf(0))
		good := fmt.Sprintf("%x", legacy.Append(nil, legacy.Entry{Key: "k", Record: legacy.Record{Value: "v", Version: 1}}))
		for _, message := range []string{
			"", "ff", "0a", "0a05 646e73", "0a03 646e73 12ff", "0a03 646e73 1203 0a0161", // no part, or no state in it
			"0a03 646e73 12" + fmt.Sprintf("%02x", len(good)/2+2) + good + "0a7f", // a good record before a broken one
			"0a05 6f74686572 1201 ff", // somebody else's
		} {
			raw.packet(addrOf(0), "08"+message)
			full := unhex(t, message)
			full = append([]byte{0x0a, byte(len(full))}, full...)
			raw.exchange(addrOf(0), wire.AppendRequest(nil, full))
		}
		for _, stream := range []string{
			"06", "0680", "0690", "06 81 a54e6f646573 ce7fffffff", "06 81 ac5573657253746174654c656e ce7fffffff",
			"06 81 a54e6f646573 01 80", "08 81 aa557365724d73674c656e ce7fffffff", "09 82 a4416c676f 00 a3427566 a3ffffff", "63", "00",
		} {
			conn, err := raw.net.DialTimeout(addrOf(0).String(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			writeAndClose(conn, unhex(t, stream))
			raw.packet(addrOf(0), stream)
		}
		time.Sleep(time.Second)
		for _, p := range peers {
			if n := len(p.State()); n != 0 {
				t.Errorf("took %d records of malformed messages", n)
			}
		}
		if s := peers[0].Stats(); s.Malformed < 10 {
			t.Errorf("counted %d malformed messages", s.Malformed)
		}
		peers[1].publish(t, apiKey, "10.0.0.1")
		lab.until(time.Second, "all others go on", func() bool {
			return all(peers, func(p *peer) bool { return p.holds(apiKey, "10.0.0.1") && p.sees(addrOf(0)) })
		})
	})
}

// writeAndClose hangs up after a moment, whether all was taken or not.
func writeAndClose(conn net.Conn, b []byte) {
	timer := time.AfterFunc(100*time.Millisecond, func() { conn.Close() })
	defer timer.Stop()
	_, _ = conn.Write(b) // the other side may have hung up already
	conn.Close()
}
