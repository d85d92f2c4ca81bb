// Package packaging has the files for installing Muster. Programs link only the agent's unit, for nodes that are installed
// without a package.
package packaging

import _ "embed"

// AgentUnit is muster-agent's systemd unit as the packages have it.
//
//go:embed systemd/muster-agent.service
var AgentUnit string
