package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// listeners are every socket that a node opens, taken before anything starts:
// a port that is in use must stop the daemon, not half of it.
type listeners struct {
	status    []net.Listener
	discovery net.Listener
	balance   map[string]net.Listener // by service
}

func (n *Node) listen() (l *listeners, err error) {
	l = &listeners{balance: make(map[string]net.Listener)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	// First, because the rest may need an address that a balancer had before.
	n.takeKept(l)
	if l.status, err = n.cfg.Status.Open(); err != nil {
		return l, err
	}
	if d := n.cfg.Discovery; d != nil && !d.Listen.IsZero() {
		if l.discovery, err = net.Listen("tcp", d.Listen.String()); err != nil {
			return l, fmt.Errorf("discovery.listen: %w", err)
		}
	}
	// The balancer's clients are on this machine: keep-alive and multipath TCP would
	// cost each connection system calls for nothing.
	local := net.ListenConfig{KeepAlive: -1}
	local.SetMultipathTCP(false)
	for _, s := range n.cfg.Services {
		if s.Balance.IsZero() || l.balance[s.Name] != nil {
			continue
		}
		ln, err := local.Listen(context.Background(), "tcp", s.Balance.String())
		if err != nil {
			return l, fmt.Errorf("balance of %s: %w", s.Name, err)
		}
		l.balance[s.Name] = ln
	}
	n.keep(l)
	return l, nil
}

// takeKept gives the balancers the sockets that were kept for them. Others are closed
// and removed from the store, since their addresses are in use for as long as they are
// open.
func (n *Node) takeKept(l *listeners) {
	stray := slices.Clone(n.opts.Kept)
	for _, s := range n.cfg.Services {
		if s.Balance.IsZero() {
			continue
		}
		i := slices.IndexFunc(stray, func(ln net.Listener) bool { return listensAt(ln, s.Balance.AddrPort) })
		if i >= 0 {
			l.balance[s.Name] = stray[i]
			stray = slices.Delete(stray, i, i+1)
		}
	}
	if len(stray) > 0 {
		closeAll(stray)
		n.keep(l)
	}
}

// listensAt reports whether ln is a TCP socket at addr, however an IPv4 address is
// written in it.
func listensAt(ln net.Listener, addr netip.AddrPort) bool {
	tcp, ok := ln.Addr().(*net.TCPAddr)
	return ok && tcp.Port == int(addr.Port()) && tcp.AddrPort().Addr().Unmap() == addr.Addr().Unmap()
}

func (n *Node) keep(l *listeners) {
	if err := n.opts.Keep(slices.Collect(maps.Values(l.balance))); err != nil {
		n.log.Warn("clients will be refused while this program is started anew", "err", err)
	}
}

func (l *listeners) close() {
	closeAll(l.status)
	if l.discovery != nil {
		l.discovery.Close()
	}
	closeAll(slices.Collect(maps.Values(l.balance)))
}

func closeAll(all []net.Listener) {
	for _, ln := range all {
		ln.Close()
	}
}

// maxSocketPath is how long the path of a Unix socket may be, in bytes: the kernel's
// field for it is that long, with a zero byte at its end.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Check reports what is wrong with s wherever it is to be used.
func (s Status) Check() error {
	if n := len(s.Socket); n > maxSocketPath {
		return fmt.Errorf("a path of %d bytes; that of a socket has at most %d, so choose a shorter one, such as /run/muster/status", n, maxSocketPath)
	}
	return nil
}

// Open takes the sockets that s names, or none of them: a port that is in use
// must stop a daemon before anything of it runs.
func (s Status) Open() (all []net.Listener, err error) {
	if !s.Listen.IsZero() {
		ln, err := net.Listen("tcp", s.Listen.String())
		if err != nil {
			return nil, fmt.Errorf("status.listen: %w", err)
		}
		all = append(all, ln)
	}
	if s.Socket != "" {
		ln, err := listenUnix(s.Socket)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("status.socket: %w", err)
		}
		all = append(all, ln)
	}
	return all, nil
}

// listenUnix takes the path from a predecessor that died without removing it,
// but not from one that still answers.
func listenUnix(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another program answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(path, 0o600)
}
