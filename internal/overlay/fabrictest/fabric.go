// Package fabrictest is an in-memory network for tests, in synctest bubbles, of overlays built on
// hashicorp/memberlist: packets over channels, streams over net.Pipe. Upstream's own mock network does not do: its
// sends block, and a node that has shut down stays reachable.
package fabrictest

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// Fabric is a network. Sending never blocks, a port that has shut down is not reachable, and links can be cut at any
// time. The zero value is ready to use, and is safe for concurrent use.
type Fabric struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*Port
	cut   func(from, to netip.AddrPort) bool // nil: nothing is cut
	loss  float64
}

// SetLoss sets the fraction of packets lost, from 0 to 1. Streams lose nothing.
func (f *Fabric) SetLoss(fraction float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loss = fraction
}

// SetCut sets which links are cut, each in one direction; nil cuts none.
func (f *Fabric) SetCut(cut func(from, to netip.AddrPort) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
}

// Silence cuts all links from and to addr, and no others.
func (f *Fabric) Silence(addr netip.AddrPort) {
	f.SetCut(func(from, to netip.AddrPort) bool { return from == addr || to == addr })
}

// Open attaches a port at addr.
func (f *Fabric) Open(addr netip.AddrPort) *Port {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ports == nil {
		f.ports = make(map[netip.AddrPort]*Port)
	}
	p := &Port{fabric: f, addr: addr, packets: make(chan *hashicorp.Packet, 1024), streams: make(chan net.Conn, 16)}
	f.ports[addr] = p
	return p
}

// reach returns the port at to, if there is one, and whether from is cut off.
func (f *Fabric) reach(from netip.AddrPort, to string, packet bool) (p *Port, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr := netip.MustParseAddrPort(to)
	cut = f.cut != nil && f.cut(from, addr) || packet && rand.Float64() < f.loss
	return f.ports[addr], cut
}

// Port is one node's transport.
type Port struct {
	fabric  *Fabric
	addr    netip.AddrPort
	packets chan *hashicorp.Packet
	streams chan net.Conn
}

var _ hashicorp.Transport = (*Port)(nil)

// FinalAdvertiseAddr returns the address of the port.
func (p *Port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

// WriteTo sends a packet.
func (p *Port) WriteTo(b []byte, to string) (time.Time, error) {
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

// DialTimeout opens a stream. Over a cut link it takes the whole timeout.
func (p *Port) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
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

// PacketCh returns the packets that arrive.
func (p *Port) PacketCh() <-chan *hashicorp.Packet { return p.packets }

// StreamCh returns the streams that others open.
func (p *Port) StreamCh() <-chan net.Conn { return p.streams }

// Shutdown detaches the port.
func (p *Port) Shutdown() error {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	if p.fabric.ports[p.addr] == p {
		delete(p.fabric.ports, p.addr)
	}
	return nil
}
