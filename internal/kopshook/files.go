package kopshook

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/packaging"
)

const (
	configPath = "/etc/muster/node.yaml"
	startPath  = "/etc/muster/start-agent.sh"
	// localBalancer is the listen address of the agent's balancer on the node.
	localBalancer = "127.0.0.1:7443"
)

// The ports of kOps's services.
const (
	apiPort            = 443
	kopsControllerPort = 3988
)

// nodeConfig returns the agent's configuration. The CA's path is where nodeup writes
// it before it starts any service. The node's name is left out, since it differs
// per node.
//
// A worker has two names in its hosts file, so both are services here: the agent
// would remove a name that is not configured.
func (c Config) nodeConfig() string {
	return fmt.Sprintf(`# Written by muster install; muster uninstall takes it out of the spec.
cluster: %s
role: worker
ca: /srv/kubernetes/ca.crt
services:
- name: api.internal
  addresses: %s
  adoptPort: %d
  balance: %s
- name: kops-controller.internal
  addresses: %s
  adoptPort: %d
  check: /healthz
`, c.Cluster, addrPorts(c.Servers, apiPort), apiPort, localBalancer, addrPorts(c.Servers, kopsControllerPort), kopsControllerPort)
}

func addrPorts(addrs []netip.Addr, port uint16) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = strconv.Quote(netip.AddrPortFrom(a, port).String())
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// startScript returns the script that fetches the program unless a file with its
// hash is present, and executes it. A program with another hash is never run, nor
// fetched again until somebody intervenes: the unit does not restart after exit
// code 78.
func (c Config) startScript() string {
	return fmt.Sprintf(`# Written by muster install. Fetches muster-agent, proves it, and becomes it.
set -eu
url='%s'
sum='%s'
dir=/opt/muster
# Container-Optimized OS runs programs from here only.
if [ -d /var/lib/toolbox ]; then dir=/var/lib/toolbox/muster; fi
program=$dir/muster-agent
proven() { echo "$sum  $1" | sha256sum -c - >/dev/null 2>&1; }
fetch() {
  if command -v curl >/dev/null; then curl -fsSL --connect-timeout 10 --max-time 40 -o "$1" "$url"
  else wget -q -T 40 -O "$1" "$url"; fi
}
if ! proven "$program"; then
  mkdir -p "$dir"
  if ! fetch "$program.new"; then
    echo "muster-agent: cannot fetch $url, trying again" >&2
    sleep 5
    exit 1
  fi
  if ! proven "$program.new"; then
    rm -f "$program.new"
    echo "muster-agent: $url does not have SHA-256 $sum; not run" >&2
    exit 78
  fi
  chmod 0755 "$program.new"
  mv "$program.new" "$program"
fi
exec "$program" --config %s
`, c.URL, c.SHA256, configPath)
}

// agentUnit returns the packages' systemd unit, adapted to start the script, so that
// the agent's sandbox has a single source.
func agentUnit() string {
	var b strings.Builder
	for line := range strings.Lines(packaging.AgentUnit) {
		key, _, _ := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "#"), key == "Documentation":
			continue
		case key == "ExecStart":
			line = "ExecStart=/bin/sh " + startPath + "\nRestartPreventExitStatus=78\n"
		case key == "ReadWritePaths":
			// The program is fetched into a directory below one of these.
			line = strings.TrimSuffix(line, "\n") + " -/opt -/var/lib/toolbox\n"
		}
		b.WriteString(line)
	}
	return strings.TrimLeft(b.String(), "\n")
}
