package peer

import (
	"fmt"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/protokube"
)

// NewLegacyOverlay makes the legacy overlay, or the two of them, that a node in
// protokube's place takes part in. It implements protokube.OpenFunc.
func NewLegacyOverlay(cfg protokube.OverlayConfig) (protokube.Overlay, error) {
	n, err := weave.New(weave.Config{
		NodeName: cfg.Node,
		Listen:   cfg.Primary.Listen,
		Secret:   cfg.Primary.Secret,
		Seeds:    cfg.Seeds,
		Logger:   cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("--gossip-listen %s: %w", cfg.Primary.Listen, err)
	}
	return mesh{n}, nil
}

// mesh is the weave overlay as protokube's place wants it.
type mesh struct{ *weave.Node }

// State implements protokube.Overlay.
func (m mesh) State() ([]legacy.Entry, []legacy.Tie) { return m.Node.State(), m.Ties() }

// Members implements protokube.Overlay.
func (m mesh) Members() (names []string) {
	for _, p := range m.Peers() {
		if p.Reachable && !p.Self {
			names = append(names, p.NickName)
		}
	}
	return names
}
