package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/lab/proc"
)

// firstHosts is what a node's hosts file begins with.
const firstHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

var (
	errNoNode   = errors.New("there is no such node")
	errNameUsed = errors.New("there is a node of this name")
)

// NodeSpec says what node to add.
type NodeSpec struct {
	// Name is the node's, unique in the network. Required.
	Name string
	// HostsFile is the absolute path of the file that is the node's
	// /etc/hosts. A missing one is created with localhost in it. Required.
	HostsFile string
	// IPv4 and IPv6 are the node's addresses, within the network's prefixes.
	// Invalid (the zero value) means the next one never used before, as a
	// cloud does for a new instance.
	IPv4, IPv6 netip.Addr
}

func (s NodeSpec) validate() error {
	var faults []error
	// The name becomes part of a file's name and of a command for ip.
	if strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.Trim(s.Name, ".-") == "" {
		faults = append(faults, fmt.Errorf("name %q is not made of a-z, 0-9, dots and dashes", s.Name))
	}
	if !filepath.IsAbs(s.HostsFile) {
		faults = append(faults, fmt.Errorf("hosts file %q is not an absolute path", s.HostsFile))
	}
	return errors.Join(faults...)
}

// Node is one member of a [Network]. Its fields do not change.
type Node struct {
	Name       string
	HostsFile  string
	IPv4, IPv6 netip.Addr // IPv6 is invalid on a kernel without it

	self   string
	port   string // the switch's end of the cable
	holder *holder
}

// AddNode starts a node: a holder, its cable to the switch and its addresses.
// When it fails nothing of the node remains.
func (n *Network) AddNode(ctx context.Context, spec NodeSpec) (*Node, error) {
	node, err := n.addNode(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("add lab node %q: %w", spec.Name, err)
	}
	n.log.Info("node joined the lab network", "node", node.Name, "ipv4", node.IPv4, "ipv6", node.IPv6)
	return node, nil
}

func (n *Network) addNode(ctx context.Context, spec NodeSpec) (*Node, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if err := n.await(ctx); err != nil {
		return nil, err
	}
	if err := createHosts(spec.HostsFile); err != nil {
		return nil, err
	}
	node, err := n.reserve(spec)
	if err != nil {
		return nil, err
	}
	if node.holder, err = n.startHolder(ctx, node.Name, node.HostsFile); err != nil {
		n.giveBack(node)
		return nil, err
	}
	if err = n.wireNode(ctx, node); err == nil {
		err = n.register(node)
	}
	if err != nil {
		err = errors.Join(err, node.holder.release(ctx))
		n.giveBack(node)
		return nil, err
	}
	return node, nil
}

// reserve takes the node's addresses and its port on the switch.
func (n *Network) reserve(spec NodeSpec) (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[spec.Name] != nil {
		return nil, errNameUsed
	}
	ipv4, err := n.pool4.take(spec.IPv4)
	if err != nil {
		return nil, err
	}
	var ipv6 netip.Addr
	if n.ipv6 {
		if ipv6, err = n.pool6.take(spec.IPv6); err != nil {
			n.pool4.give(ipv4)
			return nil, err
		}
	}
	n.lastPort++
	return &Node{
		Name: spec.Name, HostsFile: spec.HostsFile, IPv4: ipv4, IPv6: ipv6,
		self: n.cfg.Self, port: "p" + strconv.Itoa(n.lastPort),
	}, nil
}

// register makes a node that is complete one of the network's.
func (n *Network) register(node *Node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
		return ErrStopped
	default:
	}
	if n.nodes[node.Name] != nil {
		return errNameUsed
	}
	n.nodes[node.Name] = node
	return nil
}

// giveBack returns a node's addresses.
func (n *Network) giveBack(node *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pool4.give(node.IPv4)
	n.pool6.give(node.IPv6)
}

// RemoveNode pulls the node's cable and ends its holder. Its programs, if any
// are left, keep running without a network; ending them is the caller's part.
func (n *Network) RemoveNode(ctx context.Context, name string) error {
	n.mu.Lock()
	node := n.nodes[name]
	delete(n.nodes, name)
	n.mu.Unlock()
	if node == nil {
		return fmt.Errorf("remove lab node %q: %w", name, errNoNode)
	}
	var unplug error
	if node.holder.process.State() == nil {
		unplug = n.bridge.ip(ctx, nil, "link delete dev "+node.port)
	}
	err := errors.Join(unplug, node.holder.release(ctx))
	n.giveBack(node)
	if err != nil {
		return fmt.Errorf("remove lab node %q: %w", name, err)
	}
	n.log.Info("node left the lab network", "node", name)
	return nil
}

// Cut makes the switch drop everything from and to the node. The node's own
// link stays up, as it does for a machine whose network is broken elsewhere: it
// notices by silence only. Cutting a node that is cut changes nothing.
func (n *Network) Cut(ctx context.Context, name string) error {
	return n.setPort(ctx, name, "cut", "disabled", 0)
}

// Restore undoes [Network.Cut]. Connections that have not given up resume when
// their next retransmission is due.
func (n *Network) Restore(ctx context.Context, name string) error {
	return n.setPort(ctx, name, "restore", "forwarding", 3)
}

// setPort sets the state of the node's port on the switch, by the kernel's
// number for it.
func (n *Network) setPort(ctx context.Context, name, verb, state string, number int) error {
	node, err := n.node(name)
	if err == nil {
		// Of the ways to say so this is the one that works everywhere: ip link
		// set ... type bridge_slave state succeeds and changes nothing.
		err = n.bridge.batch(ctx, "bridge", nil, []string{fmt.Sprintf("link set dev %s state %d", node.port, number)})
	}
	if err != nil {
		return fmt.Errorf("%s lab node %q: %w", verb, name, err)
	}
	n.log.Info("lab switch port changed", "node", name, "to", state)
	return nil
}

func (n *Network) node(name string) (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.nodes[name]; node != nil {
		return node, nil
	}
	return nil, errNoNode
}

// Holder returns the process that keeps the node's namespaces. A person gets a
// shell on the node by nsenter -t PID -n -m.
func (node *Node) Holder() *proc.Process { return node.holder.process }

// Wrap returns the command line that runs argv on the node; it suits
// [proc.Spec].
func (node *Node) Wrap(argv []string) []string {
	return EnterArgv(node.self, node.holder.process.PID(), node.HostsFile, argv)
}

// Processes returns the numbers of the processes on the node, other than its
// holder, in rising order. It asks the kernel which processes are in the node's
// network namespace, so it finds those that nobody wrote down as well.
func (node *Node) Processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == node.holder.process.PID() {
			continue
		}
		id, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/net"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			// It ended meanwhile, or has privileges that this process lacks and
			// so cannot have been started by it.
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("processes on lab node %q: %w", node.Name, err)
		}
		if id == node.holder.id {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found, nil
}

// createHosts creates a hosts file that is missing.
func createHosts(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(firstHosts)
	return errors.Join(err, f.Close())
}
