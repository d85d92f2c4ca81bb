// Package packaging holds what Muster is installed with. Of it, programs link the
// agent's unit alone, for nodes that get it in another way than by a package.
package packaging

import _ "embed"

// AgentUnit is muster-agent's systemd unit as the packages have it.
//
//go:embed systemd/muster-agent.service
var AgentUnit string
