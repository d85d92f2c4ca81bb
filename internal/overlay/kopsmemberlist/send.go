package kopsmemberlist

import (
	"context"
	"sync"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// maxPacket is the greatest message that goes in packets, in bytes; half of what
// fits, as with kOps.
const maxPacket = packetSize / 2

// maxSends is how many members are sent to over TCP at the same time.
const maxSends = 16

// newcomerTime is how long after a write a new member is sent it. It may have asked
// somebody for the whole state just before, and that somebody passes nothing on.
const newcomerTime = 10 * time.Second

// keepSending sends what we wrote to every member, until ctx ends.
func (n *Node) keepSending(ctx context.Context, ml *hashicorp.Memberlist) {
	var sends sync.WaitGroup
	defer sends.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.kick:
		}
		message, to := n.takeUnsent(time.Now())
		if len(to) == 0 {
			continue
		}
		if len(message) > maxPacket {
			for _, m := range to {
				if n.begin(m) {
					sends.Go(func() { n.sendAll(ctx, ml, m) })
				}
			}
		} else {
			n.queue.QueueBroadcast(broadcast(message))
			for _, m := range to {
				n.count(m, ml.SendBestEffort(&m.node, message))
			}
		}
		n.mu.Lock()
		n.handing = false
		n.wakeQuiet()
		n.mu.Unlock()
	}
}

// takeUnsent returns what has to be sent, and to whom. As long as there is
// nobody, it stays to be sent.
func (n *Node) takeUnsent(now time.Time) (message []byte, to []member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.unsent && now.Sub(n.wroteAt) > newcomerTime {
		return nil, nil
	}
	for _, m := range n.othersLocked() {
		if m.told < n.edition {
			m.told = n.edition
			n.members[m.node.Name] = m
			to = append(to, m)
		}
	}
	if len(to) > 0 {
		n.unsent, n.handing = false, true
		message = n.board.message()
	}
	return message, to
}

// begin reports whether m is to be sent to; if something is on its way to it, that
// will be followed by the latest.
func (n *Node) begin(m member) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sending[m.node.Name] {
		return false
	}
	n.sending[m.node.Name] = true
	return true
}

// sendAll sends the state over TCP until m has been sent the latest, or could not
// be.
func (n *Node) sendAll(ctx context.Context, ml *hashicorp.Memberlist, m member) {
	for {
		select {
		case n.slots <- struct{}{}:
		case <-ctx.Done():
			n.end(m, 0, true)
			return
		}
		n.mu.Lock()
		edition, message := n.edition, n.board.message()
		n.mu.Unlock()
		err := ml.SendReliable(&m.node, message)
		<-n.slots
		n.count(m, err)
		if n.end(m, edition, ctx.Err() != nil) {
			return
		}
	}
}

// end reports whether m has been sent what there is, or is given up.
func (n *Node) end(m member, edition uint64, giveUp bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !giveUp && edition != n.edition {
		return false
	}
	delete(n.sending, m.node.Name)
	n.wakeQuiet()
	return true
}

func (n *Node) count(m member, err error) {
	n.mu.Lock()
	if err == nil {
		n.board.stats.Sent++
	} else {
		n.board.stats.Unsent++
	}
	n.mu.Unlock()
	if err != nil {
		n.log.Debug("member not told of a change; it will hear of it in an exchange", "member", m.node.Name, "addr", m.addr, "error", err)
	}
}

// wakeQuiet tells those who wait for it that nothing waits to be sent. n is locked.
func (n *Node) wakeQuiet() {
	if n.quiet != nil && n.isQuiet() {
		close(n.quiet)
		n.quiet = nil
	}
}

func (n *Node) isQuiet() bool {
	return len(n.othersLocked()) > 0 && !n.unsent && !n.handing && len(n.sending) == 0
}

// broadcast is the state on its way in packets. A later one replaces it, because
// that holds all of it.
type broadcast []byte

var _ hashicorp.NamedBroadcast = broadcast(nil)

func (b broadcast) Name() string    { return legacy.Channel }
func (b broadcast) Message() []byte { return b }
func (b broadcast) Finished()       {}

func (b broadcast) Invalidates(other hashicorp.Broadcast) bool {
	_, ok := other.(broadcast)
	return ok
}
