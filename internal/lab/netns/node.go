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

// initialHosts is the initial content of a node's hosts file.
const initialHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

var (
	errNoNode   = errors.New("there is no such node")
	errNameUsed = errors.New("there is a node of this name")
)

// NodeSpec specifies a node to add.
type NodeSpec struct {
	// Name is the node's name, unique in the network. Required.
	Name string
	// HostsFile is the absolute path of the file that is the node's
	// /etc/hosts. A missing one is created with localhost in it. Required.
	HostsFile string
	// IPv4 and IPv6 are the node's addresses, within the network's prefixes. The zero value means the next one never
	// used before, as for a new instance in a cloud.
	IPv4, IPv6 netip.Addr
}

func (s NodeSpec) validate() error {
	var faults []error
	// The name becomes part of a file name and of a command for ip.
	if strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.Trim(s.Name, ".-") == "" {
		faults = append(faults, fmt.Errorf("name %q is not made of a-z, 0-9, dots and dashes", s.Name))
	}
	if !filepath.IsAbs(s.HostsFile) {
		faults = append(faults, fmt.Errorf("hosts file %q is not an absolute path", s.HostsFile))
	}
	return errors.Join(faults...)
}

// Node is a node on a [Network]. Its fields do not change.
type Node struct {
	Name       string
	HostsFile  string
	IPv4, IPv6 netip.Addr // IPv6 is invalid on a kernel without it

	self   string
	port   string // its port on the switch
	holder *holder
}

// AddNode adds a node: a holder, its link to the switch and its addresses. If it fails nothing of the node remains.
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
	if err := n.awaitReady(ctx); err != nil {
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
		n.releaseAddrs(node)
		return nil, err
	}
	if err = n.connectNode(ctx, node); err == nil {
		err = n.register(node)
	}
	if err != nil {
		err = errors.Join(err, node.holder.release(ctx))
		n.releaseAddrs(node)
		return nil, err
	}
	return node, nil
}

// reserve allocates the node's addresses and its port on the switch.
func (n *Network) reserve(spec NodeSpec) (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[spec.Name] != nil {
		return nil, errNameUsed
	}
	ipv4, err := n.pool4.allocate(spec.IPv4)
	if err != nil {
		return nil, err
	}
	var ipv6 netip.Addr
	if n.ipv6 {
		if ipv6, err = n.pool6.allocate(spec.IPv6); err != nil {
			n.pool4.release(ipv4)
			return nil, err
		}
	}
	n.lastPort++
	return &Node{
		Name: spec.Name, HostsFile: spec.HostsFile, IPv4: ipv4, IPv6: ipv6,
		self: n.cfg.Self, port: "p" + strconv.Itoa(n.lastPort),
	}, nil
}

// register adds a complete node to the network.
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

// releaseAddrs releases a node's addresses.
func (n *Network) releaseAddrs(node *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pool4.release(node.IPv4)
	n.pool6.release(node.IPv6)
}

// RemoveNode removes the node's link and ends its holder. Programs that still run there lose their network; stopping
// them is up to the caller.
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
	n.releaseAddrs(node)
	if err != nil {
		return fmt.Errorf("remove lab node %q: %w", name, err)
	}
	n.log.Info("node left the lab network", "node", name)
	return nil
}

// Cut makes the switch drop all traffic from and to the node. The node's own link stays up, as for a machine whose
// network is broken elsewhere. Cutting a node twice has no effect.
func (n *Network) Cut(ctx context.Context, name string) error {
	return n.setPortState(ctx, name, "cut", "disabled", 0)
}

// Restore undoes [Network.Cut]. Connections that have not timed out resume with their next retransmission.
func (n *Network) Restore(ctx context.Context, name string) error {
	return n.setPortState(ctx, name, "restore", "forwarding", 3)
}

// setPortState sets the state of the node's port on the switch, by the kernel's number.
func (n *Network) setPortState(ctx context.Context, name, verb, state string, number int) error {
	node, err := n.node(name)
	if err == nil {
		// This is the one way that works everywhere: ip link set ... type bridge_slave state succeeds without an
		// effect.
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

// Holder returns the process that keeps the node's namespaces. For a shell on the node, run nsenter -t PID -n -m.
func (node *Node) Holder() *proc.Process { return node.holder.process }

// Wrap returns the command line that runs argv on the node; it suits
// [proc.Spec].
func (node *Node) Wrap(argv []string) []string {
	return EnterArgv(node.self, node.holder.process.PID(), node.HostsFile, argv)
}

// Processes returns the IDs of the processes on the node, except its holder, in ascending order: all that are in the
// node's network namespace according to the kernel, whoever started them.
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
			// It has ended, or has privileges that this process lacks and so was not started by it.
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

// createHosts creates the hosts file if it is missing.
func createHosts(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(initialHosts)
	return errors.Join(err, f.Close())
}
