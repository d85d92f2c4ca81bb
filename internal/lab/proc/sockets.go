package proc

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Socket is a socket that accepts traffic from anybody: a listening TCP socket, or a bound UDP socket without a fixed
// peer. A UDP client that has sent without connecting first looks the same to the kernel, and so here.
type Socket struct {
	// Network is "tcp" or "udp", for IPv4 and IPv6.
	Network string
	// Local is the bound address. An unspecified IPv6 address accepts IPv4 as well unless the program requested IPv6
	// only; the kernel's tables do not tell.
	Local netip.AddrPort
	// Inode identifies the socket within its network namespace.
	Inode uint64
}

// tables are the kernel's socket tables: file, network, and the state of a listener there (TCP_LISTEN; TCP_CLOSE for
// UDP without peer).
var tables = [...]struct{ file, network, state string }{
	{"net/tcp", "tcp", "0A"},
	{"net/tcp6", "tcp", "0A"},
	{"net/udp", "udp", "07"},
	{"net/udp6", "udp", "07"},
}

// Held returns those of the sockets from [NamespaceListeners] that the process has open. Reading the kernel's tables
// is expensive, so they are read once for all processes of a namespace. Reading another user's process needs root. A
// socket from a namespace other than that of the process's main thread is not seen.
func Held(pid int, sockets []Socket) ([]Socket, error) {
	owned, err := socketInodes(pid)
	if err != nil {
		return nil, fmt.Errorf("sockets of process %d: %w", pid, err)
	}
	return slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return !owned[s.Inode] }), nil
}

// NamespaceListeners returns every such socket in the network namespace of the process, whichever process has it,
// sorted by network and address. It is a snapshot.
func NamespaceListeners(pid int) ([]Socket, error) {
	if _, err := os.Stat(procPath(pid, "net")); err != nil {
		return nil, fmt.Errorf("sockets around process %d: %w", pid, err)
	}
	var sockets []Socket
	for _, table := range tables {
		text, err := os.ReadFile(procPath(pid, table.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("sockets around process %d: %w", pid, err)
		}
		found, err := parseSocketTable(string(text), table.network, table.state)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", procPath(pid, table.file), err)
		}
		sockets = append(sockets, found...)
	}
	slices.SortFunc(sockets, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Local.Compare(b.Local), cmp.Compare(a.Inode, b.Inode))
	})
	return sockets, nil
}

// socketInodes returns the inodes of the sockets that the process has open.
func socketInodes(pid int) (map[uint64]bool, error) {
	dir := procPath(pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	inodes := make(map[uint64]bool)
	for _, entry := range entries {
		target, err := os.Readlink(dir + "/" + entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		number, isSocket := strings.CutPrefix(target, "socket:[")
		if !isSocket {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("descriptor %s: %w", entry.Name(), err)
		}
		inodes[inode] = true
	}
	return inodes, nil
}

// parseSocketTable parses one of /proc/net/{tcp,tcp6,udp,udp6} and returns the sockets in the given state that are
// bound to a port and have no peer.
func parseSocketTable(text, network, state string) ([]Socket, error) {
	const local, remote, status, inode = 1, 2, 3, 9 // columns, proc_net(5)
	var sockets []Socket
	header := true
	for line := range strings.Lines(text) {
		if header {
			header = false
			continue
		}
		fields := strings.Fields(line)
		if len(fields) <= inode {
			return nil, fmt.Errorf("line %q has %d columns, want more than %d", line, len(fields), inode)
		}
		if fields[status] != state {
			continue
		}
		address, err := parseSocketAddress(fields[local])
		if err != nil {
			return nil, err
		}
		peer, err := parseSocketAddress(fields[remote])
		if err != nil {
			return nil, err
		}
		if address.Port() == 0 || peer.Port() != 0 {
			continue
		}
		number, err := strconv.ParseUint(fields[inode], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("inode %q: %w", fields[inode], err)
		}
		sockets = append(sockets, Socket{Network: network, Local: address, Inode: number})
	}
	return sockets, nil
}

// parseSocketAddress parses an address such as 0100007F:1F90. The kernel prints the address as 32-bit words in the
// machine's byte order, and the port as a number.
func parseSocketAddress(s string) (netip.AddrPort, error) {
	host, service, _ := strings.Cut(s, ":")
	words, err := hex.DecodeString(host)
	if err != nil || (len(words) != 4 && len(words) != 16) {
		return netip.AddrPort{}, fmt.Errorf("socket address %q is malformed", s)
	}
	port, err := strconv.ParseUint(service, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port of socket address %q: %w", s, err)
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	address, _ := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), nil
}
