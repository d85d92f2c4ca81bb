package netns

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// batchTimeout bounds one run of ip or bridge. They take milliseconds, but a kernel busy with removing namespaces may
// delay them.
const batchTimeout = 10 * time.Second

// createBridge creates the bridge. It forwards at once: without spanning tree, and without multicast snooping,
// because IPv6 depends on multicast.
func createBridge(ctx context.Context, bridge *holder) error {
	return bridge.ip(ctx, nil,
		"link set dev lo up",
		"link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set dev br0 up",
	)
}

// connectNode creates the link between switch and node and assigns the node's addresses.
func (n *Network) connectNode(ctx context.Context, node *Node) error {
	err := n.bridge.ip(ctx, node.holder,
		"link add name "+node.port+" type veth peer name eth0 netns "+peerNamespace,
		// A port's name has at most 15 bytes; the alias tells people whose it is.
		"link set dev "+node.port+" alias "+node.Name,
		"link set dev "+node.port+" master br0",
		"link set dev "+node.port+" up",
	)
	if err != nil {
		return err
	}
	commands := []string{
		"link set dev lo up",
		"address add " + netip.PrefixFrom(node.IPv4, n.cfg.IPv4.Bits()).String() + " dev eth0",
	}
	if node.IPv6.IsValid() {
		// Duplicate address detection would keep the address unusable for a second.
		commands = append(commands,
			"address add "+netip.PrefixFrom(node.IPv6, n.cfg.IPv6.Bits()).String()+" dev eth0 nodad")
	}
	return node.holder.ip(ctx, nil, append(commands, "link set dev eth0 up")...)
}

// Namespaces are passed to ip as descriptors: unlike process numbers, they cannot come to mean another process.
const (
	ownNamespace  = "/proc/self/fd/3"
	peerNamespace = "/proc/self/fd/4"
)

// ip runs commands of ip(8) in the holder's namespace, in order, until one fails. A command may refer to the
// namespace of peer as peerNamespace.
func (h *holder) ip(ctx context.Context, peer *holder, commands ...string) error {
	return h.batch(ctx, "ip", peer, commands)
}

// batch runs commands of ip or bridge.
func (h *holder) batch(ctx context.Context, tool string, peer *holder, commands []string) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	own, err := h.open()
	if err != nil {
		return err
	}
	defer own.Close()
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+ownNamespace, tool, "-batch", "-")
	cmd.ExtraFiles = []*os.File{own}
	if peer != nil {
		other, err := peer.open()
		if err != nil {
			return err
		}
		defer other.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, other)
	}
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return batchError(err, tool, output.String(), commands)
	}
	return nil
}

// batchError makes an error of a failed batch that names the command and the reason.
func batchError(err error, tool, output string, commands []string) error {
	var reasons []string
	failed := tool + " -batch"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if number, found := strings.CutPrefix(line, "Command failed -:"); found {
			if n, err := strconv.Atoi(number); err == nil && n >= 1 && n <= len(commands) {
				failed = tool + " " + commands[n-1]
			}
			continue
		}
		if line != "" {
			reasons = append(reasons, line)
		}
	}
	if len(reasons) == 0 {
		return fmt.Errorf("%s: %w", failed, err)
	}
	return fmt.Errorf("%s: %s (%w)", failed, strings.Join(reasons, "; "), err)
}
