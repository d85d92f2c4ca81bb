// Package netns gives each node of a lab its own network on one machine: a network namespace with a link to a common
// switch, and a mount namespace in which /etc/hosts is the node's file.
//
// A node's namespace is kept by a holder, a process that does nothing else. Programs enter it by [Node.Wrap]. The
// switch is a bridge in a holder's namespace as well, so the machine's own network is never touched: no address, link
// or route is added to it, and lab nodes cannot reach it.
//
// Invariants:
//
//   - nothing has a name outside the processes: no entry in /run/netns or /etc/netns, no mount that others see. When
//     the holders and the programs in their namespaces have ended, by whatever signal, the kernel removes namespaces,
//     links and addresses;
//   - namespaces are addressed by open descriptors, never by a bare process number that the kernel could have given
//     to another process: a mistake there would reconfigure the machine's own network;
//   - within a namespace /etc/hosts is a bind mount of one file. Its inode must be kept: writing the file in place
//     shows everywhere at once, while replacing it by rename fails inside with EBUSY, and outside detaches the node
//     from the new file. Programs that write /etc/hosts meet the same in containers.
//
// Linux only; it needs CAP_SYS_ADMIN and CAP_NET_ADMIN, ip and bridge of iproute2, and nsenter of util-linux. [Check]
// says what is missing.
package netns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/lab/proc"
)

const (
	// holderGrace is how long a holder may take to end by itself.
	holderGrace = time.Second
	// teardownTimeout bounds the end of Run.
	teardownTimeout = 10 * time.Second
)

// ErrStopped is returned for a [Network] whose Run has ended.
var ErrStopped = errors.New("the lab network has stopped")

// Config configures a [Network].
type Config struct {
	// Supervisor starts the holders. It must run for as long as the network does. Required.
	Supervisor *proc.Supervisor
	// Self is the absolute path of a program that calls [HoldMain] and
	// [EnterMain] for its subcommands [HoldVerb] and [EnterVerb]: muster
	// itself. Required.
	Self string
	// LogDir is an existing directory for a log file of each holder. Empty discards their output.
	LogDir string
	// IPv4 and IPv6 are the networks of the nodes' addresses. They exist only inside the namespaces. Default
	// 10.213.0.0/16 and fd00:213::/64. On a kernel without IPv6 nodes have IPv4 only.
	IPv4, IPv6 netip.Prefix
	// Log gets nodes that are added, removed, cut off and restored. Nil discards.
	Log *slog.Logger
}

func (c *Config) setDefaults() {
	if !c.IPv4.IsValid() {
		c.IPv4 = netip.MustParsePrefix("10.213.0.0/16")
	}
	if !c.IPv6.IsValid() {
		c.IPv6 = netip.MustParsePrefix("fd00:213::/64")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	var faults []error
	if c.Supervisor == nil {
		faults = append(faults, errors.New("no supervisor to start holders with"))
	}
	if !filepath.IsAbs(c.Self) {
		faults = append(faults, fmt.Errorf("program %q is not an absolute path", c.Self))
	}
	if !c.IPv4.Addr().Is4() || !c.IPv4.Addr().IsPrivate() {
		faults = append(faults, fmt.Errorf("%q is not a private IPv4 network", c.IPv4))
	}
	if !c.IPv6.Addr().Is6() || !c.IPv6.Addr().IsPrivate() {
		faults = append(faults, fmt.Errorf("%q is not a private IPv6 network (fc00::/7)", c.IPv6))
	}
	return errors.Join(faults...)
}

// Network is a switch and the nodes on it. Create it with [New], keep [Network.Run] running, and call the other
// methods from any goroutine.
type Network struct {
	cfg     Config
	log     *slog.Logger
	running atomic.Bool
	ready   chan struct{} // closed when the switch is up
	done    chan struct{} // closed when Run ends
	bridge  *holder       // written before ready closes
	ipv6    bool          // written before ready closes

	mu       sync.Mutex // guards the fields below
	nodes    map[string]*Node
	lastPort int
	pool4    pool
	pool6    pool
}

// New returns a network that does not run yet.
func New(cfg Config) (*Network, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("lab network: %w", err)
	}
	return &Network{
		cfg:   cfg,
		log:   cfg.Log,
		ready: make(chan struct{}),
		done:  make(chan struct{}),
		nodes: make(map[string]*Node),
		pool4: newPool(cfg.IPv4),
		pool6: newPool(cfg.IPv6),
	}, nil
}

// Run creates the switch, keeps it until ctx ends and then ends every holder. It returns an error if the switch
// cannot be created or is lost. Programs that still run in a namespace are the caller's to stop; until then their
// namespace stays. Run may be called once.
func (n *Network) Run(ctx context.Context) error {
	if !n.running.CompareAndSwap(false, true) {
		return errors.New("the lab network has been run before")
	}
	err := n.run(ctx)
	close(n.done)

	// No node can join from here on, because register checks done under the lock.
	teardown, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
	defer cancel()
	return errors.Join(err, n.releaseAll(teardown))
}

func (n *Network) run(ctx context.Context) error {
	if err := Check(); err != nil {
		return fmt.Errorf("lab network: %w", err)
	}
	_, err := os.Stat("/proc/sys/net/ipv6")
	n.ipv6 = err == nil
	if !n.ipv6 {
		n.log.Warn("this kernel has no IPv6: the lab's nodes have IPv4 only")
	}
	if n.bridge, err = n.startHolder(ctx, "switch", ""); err != nil {
		return fmt.Errorf("lab network: %w", err)
	}
	if err := createBridge(ctx, n.bridge); err != nil {
		return fmt.Errorf("lab network: %w", err)
	}
	close(n.ready)
	select {
	case <-ctx.Done():
		return nil
	case <-n.bridge.process.Exited():
		return fmt.Errorf("lab network: the switch is lost: %s ended", n.bridge.process)
	}
}

// releaseAll ends the holders of the switch and of all nodes.
func (n *Network) releaseAll(ctx context.Context) error {
	n.mu.Lock()
	var holders []*holder
	for _, node := range n.nodes {
		holders = append(holders, node.holder)
	}
	clear(n.nodes)
	n.mu.Unlock()
	if n.bridge != nil {
		holders = append(holders, n.bridge)
	}
	var group errgroup.Group
	for _, h := range holders {
		group.Go(func() error { return h.release(ctx) })
	}
	return group.Wait()
}

// awaitReady waits until the switch is up.
func (n *Network) awaitReady(ctx context.Context) error {
	select {
	case <-n.done:
		return ErrStopped
	default:
	}
	select {
	case <-n.ready:
		return nil
	case <-n.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// holder is a process that keeps a namespace.
type holder struct {
	process *proc.Process
	// dir is the open directory /proc/PID: it always refers to this process, and reading through it fails once the
	// process is gone.
	dir *os.File
	// stdin ends the holder when it is closed, also by the end of this process: a second safeguard besides the
	// parent-death signal of package proc.
	stdin *os.File
	// id is the kernel's name of the namespace, such as net:[4026532281].
	id string
}

// startHolder starts a holder whose mount namespace shows hostsFile as
// /etc/hosts, if that is not empty.
func (n *Network) startHolder(ctx context.Context, name, hostsFile string) (*holder, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	spec := proc.Spec{
		Name: name + " namespace", Path: n.cfg.Self, Args: []string{HoldVerb, hostsFile},
		Stdin: read, Isolate: true,
	}
	if n.cfg.LogDir != "" {
		spec.LogFile = filepath.Join(n.cfg.LogDir, name+".netns.log")
	}
	process, err := n.cfg.Supervisor.Start(ctx, spec)
	if err != nil {
		write.Close()
		return nil, err
	}
	h := &holder{process: process, stdin: write}
	if err := h.identify(); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace of %s: %w", process, err), h.release(ctx))
	}
	return h, nil
}

// identify opens /proc/PID and reads the namespace's id.
func (h *holder) identify() error {
	var err error
	if h.dir, err = os.Open(fmt.Sprintf("/proc/%d", h.process.PID())); err != nil {
		return err
	}
	if h.id, err = os.Readlink(h.path("ns/net")); err != nil {
		return err
	}
	if h.process.State() != nil {
		// It has ended, so the number may have been another process's.
		return fmt.Errorf("it ended at once: %s", h.process.Tail(1))
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if h.id == own {
		return errors.New("it is the machine's own")
	}
	return nil
}

// path returns the path of a file under the holder's /proc directory.
func (h *holder) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", h.dir.Fd(), name)
}

// open opens the namespace. It fails when the holder is gone.
func (h *holder) open() (*os.File, error) {
	f, err := os.Open(h.path("ns/net"))
	if err != nil {
		return nil, fmt.Errorf("%s is gone, and its network with it: %w", h.process, err)
	}
	return f, nil
}

// release ends the holder.
func (h *holder) release(ctx context.Context) error {
	h.stdin.Close()
	err := h.process.Stop(ctx, holderGrace)
	if h.dir != nil {
		h.dir.Close()
	}
	return err
}
