package wire

import (
	"errors"
	"fmt"
	"slices"
)

// Tag is the first byte of each frame after the features.
type Tag byte

// The tags. Tags 1, 2, 3 and 7 controlled an overlay network that kOps does not use; they are ignored, like unknown
// ones.
const (
	Heartbeat Tag = 0
	Gossip    Tag = 4 // relayed to random neighbours by each peer to which it is new
	Unicast   Tag = 5 // to one peer
	Broadcast Tag = 6 // to all peers, along the tree of its origin
)

// Message is the content of a frame.
type Message struct {
	Tag     Tag
	Channel string // empty with tags other than Gossip, Unicast and Broadcast
	From    Name   // Gossip: the neighbour that sent it; otherwise its origin
	To      Name   // Unicast only
	Data    []byte // for the channel; after ParseMessage it aliases the frame
}

// Append appends the message as a frame's content.
func (m Message) Append(dst []byte) []byte {
	const overhead = 128 // tag, two names, lengths
	dst = slices.Grow(dst, overhead+len(m.Channel)+len(m.Data))
	dst = append(dst, byte(m.Tag))
	if !m.Tag.gossips() {
		return dst
	}
	dst = appendGobScalar(dst, gobString, m.Channel)
	dst = appendGobScalar(dst, gobString, m.From.String())
	if m.Tag == Unicast {
		dst = appendGobScalar(dst, gobString, m.To.String())
	}
	return appendGobScalar(dst, gobBytes, m.Data)
}

func (t Tag) gossips() bool { return t == Gossip || t == Unicast || t == Broadcast }

// The known channels; other names cost an allocation.
const (
	ChannelTopology = "topology"
	ChannelDNS      = "dns"
)

// ParseMessage parses the content of a frame. For a frame without a gossip payload only Tag is set.
func ParseMessage(frame []byte) (Message, error) {
	if len(frame) == 0 {
		return Message{}, errors.New("empty frame")
	}
	m := Message{Tag: Tag(frame[0])}
	if !m.Tag.gossips() {
		return m, nil
	}
	r := gobReader{rest: frame[1:]}
	channel, err := r.scalar(gobString)
	if err != nil {
		return m, fmt.Errorf("message channel: %w", err)
	}
	switch string(channel) {
	case ChannelDNS:
		m.Channel = ChannelDNS
	case ChannelTopology:
		m.Channel = ChannelTopology
	default:
		m.Channel = string(channel)
	}
	if m.From, err = nameValue(&r); err != nil {
		return m, fmt.Errorf("message source: %w", err)
	}
	if m.Tag == Unicast {
		if m.To, err = nameValue(&r); err != nil {
			return m, fmt.Errorf("message destination: %w", err)
		}
	}
	if m.Data, err = r.scalar(gobBytes); err != nil {
		return m, fmt.Errorf("message data: %w", err)
	}
	return m, nil
}

func nameValue(r *gobReader) (Name, error) {
	text, err := r.scalar(gobString)
	if err != nil {
		return Name{}, err
	}
	return ParseName(text)
}
