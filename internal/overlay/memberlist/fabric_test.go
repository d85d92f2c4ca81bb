package memberlist

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// fabric is a network in memory, for synctest bubbles: packets over channels,
// streams over net.Pipe. Sending never blocks, a port that shut down is not
// reachable, and links can be cut while it runs.
type fabric struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*port
	cut   func(from, to netip.AddrPort) bool // nil: nothing is cut
	loss  float64                            // share of packets lost
}

func newFabric() *fabric { return &fabric{ports: make(map[netip.AddrPort]*port)} }

// setCut replaces what is cut.
func (f *fabric) setCut(cut func(from, to netip.AddrPort) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
}

// silence cuts addr off in both directions.
func (f *fabric) silence(addr netip.AddrPort) {
	f.setCut(func(from, to netip.AddrPort) bool { return from == addr || to == addr })
}

// open attaches a port at addr.
func (f *fabric) open(addr netip.AddrPort) *port {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &port{fabric: f, addr: addr, packets: make(chan *hashicorp.Packet, 1024), streams: make(chan net.Conn, 16)}
	f.ports[addr] = p
	return p
}

// reach returns the port at to, if there is one, and whether from is cut off.
func (f *fabric) reach(from netip.AddrPort, to string, packet bool) (p *port, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr := netip.MustParseAddrPort(to)
	cut = f.cut != nil && f.cut(from, addr) || packet && rand.Float64() < f.loss
	return f.ports[addr], cut
}

// port is one node's transport.
type port struct {
	fabric  *fabric
	addr    netip.AddrPort
	packets chan *hashicorp.Packet
	streams chan net.Conn
}

var _ hashicorp.Transport = (*port)(nil)

func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

func (p *port) WriteTo(b []byte, to string) (time.Time, error) {
	now := time.Now()
	peer, cut := p.fabric.reach(p.addr, to, true)
	if peer == nil || cut {
		return now, nil
	}
	packet := &hashicorp.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(p.addr), Timestamp: now}
	select {
	case peer.packets <- packet:
	default: // a full receive buffer loses packets
	}
	return now, nil
}

func (p *port) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	peer, cut := p.fabric.reach(p.addr, to, false)
	if cut {
		time.Sleep(timeout)
		return nil, errors.New("dial: i/o timeout")
	}
	if peer == nil {
		return nil, errors.New("dial: connection refused")
	}
	near, far := net.Pipe()
	select {
	case peer.streams <- far:
		return near, nil
	case <-time.After(timeout):
		return nil, errors.New("dial: i/o timeout")
	}
}

func (p *port) PacketCh() <-chan *hashicorp.Packet { return p.packets }
func (p *port) StreamCh() <-chan net.Conn          { return p.streams }

func (p *port) Shutdown() error {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	if p.fabric.ports[p.addr] == p {
		delete(p.fabric.ports, p.addr)
	}
	return nil
}
