package gossip

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"os"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

// Configuration is one overlay of a spec.
type Configuration struct {
	Overlay Overlay
	Config  cluster.GossipConfig
}

// Configured returns the overlays that a spec's nodes run, primary first, with kOps's defaults; none without a spec.
func Configured(spec *cluster.Cluster) []Configuration {
	if spec == nil {
		return nil
	}
	primary, secondary := cluster.GossipConfig{}, cluster.GossipConfig{}
	if spec.Gossip != nil {
		primary = *spec.Gossip
		if primary.Secondary != nil {
			secondary = *primary.Secondary
		}
	}
	configs := []Configuration{{Weave, primary}}
	if primary.Protocol == cluster.ProtocolMemberlist {
		configs[0].Overlay = Memberlist
	}
	second := Configuration{Memberlist, secondary}
	if secondary.Protocol == cluster.ProtocolMesh {
		second.Overlay = Weave
	}
	// A secondary of the same protocol could not be told from the primary.
	if second.Overlay != configs[0].Overlay && !secondary.ProtocolEmpty {
		configs = append(configs, second)
	}
	return configs
}

// NewSide returns the side for an overlay and its peers. Each reader and leaf uses a unique node name, because weave
// refuses a second peer of the same name. A nil dial connects directly.
func NewSide(overlay Overlay, at []netip.AddrPort, secret []byte, dial visit.Dialer) Side {
	side := Side{Overlay: overlay, At: at}
	if overlay == Memberlist {
		side.Reader = MemberlistReader{Dial: dial}
		side.NewLeaf = func(at []netip.AddrPort) (Writer, error) { return NewMemberlistLeaf(dial, at), nil }
		return side
	}
	side.Reader = WeaveReader{Config: weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}}
	side.NewLeaf = func(at []netip.AddrPort) (Writer, error) {
		return NewWeaveLeaf(weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}, at)
	}
	return side
}

// visitorName returns a unique node name that tells an operator who is connected.
func visitorName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "somewhere"
	}
	var unique [4]byte
	rand.Read(unique[:]) // never fails
	return NodePrefix + host + "-" + hex.EncodeToString(unique[:])
}
