package kopsmemberlist

import (
	"context"
	"sync"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// maxPacket is the largest message sent in packets, in bytes: half of what fits, as in kOps.
const maxPacket = packetSize / 2

// maxSends bounds concurrent sends over TCP.
const maxSends = 16

// newMemberWindow is how long after a write a new member is sent it. It may have fetched the full state just before
// from a member that did not have the write yet and will not pass it on.
const newMemberWindow = 10 * time.Second

// keepSending sends our writes to every member, until ctx ends.
func (n *Node) keepSending(ctx context.Context, ml *hashicorp.Memberlist) {
	var sends sync.WaitGroup
	defer sends.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		message, to := n.nextBroadcast(time.Now())
		if len(to) == 0 {
			continue
		}
		if len(message) > maxPacket {
			for _, m := range to {
				if n.startSend(m) {
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
		n.dispatching = false
		n.wakeFlushers()
		n.mu.Unlock()
	}
}

// nextBroadcast returns the message to send, and the members to send it to. Without members it stays unsent.
func (n *Node) nextBroadcast(now time.Time) (message []byte, to []member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.unsent && now.Sub(n.wroteAt) > newMemberWindow {
		return nil, nil
	}
	for _, m := range n.othersLocked() {
		if m.sentEdition < n.edition {
			m.sentEdition = n.edition
			n.members[m.node.Name] = m
			to = append(to, m)
		}
	}
	if len(to) > 0 {
		n.unsent, n.dispatching = false, true
		message = n.shared.encodeBroadcast()
	}
	return message, to
}

// startSend reports whether to send to m. It returns false while a send to it is under way, which will continue with
// the latest state.
func (n *Node) startSend(m member) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sending[m.node.Name] {
		return false
	}
	n.sending[m.node.Name] = true
	return true
}

// sendAll sends the state over TCP until m has the latest, or a send fails.
func (n *Node) sendAll(ctx context.Context, ml *hashicorp.Memberlist, m member) {
	for {
		select {
		case n.slots <- struct{}{}:
		case <-ctx.Done():
			n.finishSend(m, 0, true)
			return
		}
		n.mu.Lock()
		edition, message := n.edition, n.shared.encodeBroadcast()
		n.mu.Unlock()
		err := ml.SendReliable(&m.node, message)
		<-n.slots
		n.count(m, err)
		if n.finishSend(m, edition, ctx.Err() != nil) {
			return
		}
	}
}

// finishSend reports whether m has been sent the latest edition, or giveUp is set.
func (n *Node) finishSend(m member, edition uint64, giveUp bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !giveUp && edition != n.edition {
		return false
	}
	delete(n.sending, m.node.Name)
	n.wakeFlushers()
	return true
}

func (n *Node) count(m member, err error) {
	n.mu.Lock()
	if err == nil {
		n.shared.stats.Sent++
	} else {
		n.shared.stats.Unsent++
	}
	n.mu.Unlock()
	if err != nil {
		n.log.Debug("member not told of a change; it will hear of it in an exchange", "member", m.node.Name, "addr", m.addr, "error", err)
	}
}

// wakeFlushers wakes the callers of Flush if nothing waits to be sent. The caller holds mu.
func (n *Node) wakeFlushers() {
	if n.flushed != nil && n.isFlushed() {
		close(n.flushed)
		n.flushed = nil
	}
}

func (n *Node) isFlushed() bool {
	return len(n.othersLocked()) > 0 && !n.unsent && !n.dispatching && len(n.sending) == 0
}

// broadcast is the state queued for gossip. A later one replaces it, because it contains all of it.
type broadcast []byte

var _ hashicorp.NamedBroadcast = broadcast(nil)

func (b broadcast) Name() string    { return legacy.Channel }
func (b broadcast) Message() []byte { return b }
func (b broadcast) Finished()       {}

func (b broadcast) Invalidates(other hashicorp.Broadcast) bool {
	_, ok := other.(broadcast)
	return ok
}
