package migratecmd

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/probe"
)

type probeOptions struct {
	serverName string
	ca         string
	hosts      string
	targets    []string
	interval   time.Duration
}

// minInterval is the shortest pause between two probes of a path: a shorter one adds
// load and measures no better.
const minInterval = 10 * time.Millisecond

// NewProbe returns muster probe.
func NewProbe(s console.Streams) *cobra.Command {
	var o probeOptions
	cmd := &cobra.Command{
		Use:   "probe --server-name NAME --ca FILE --target PATH=ADDRESS:PORT",
		Short: "Call the API all the time, over each path, and print every answer",
		Long: `probe calls the API server as a kubelet would, with a new connection each time,
over each path given, until it is stopped. Each call is one line of JSON on standard
output: path, when it began, how long it took, what went wrong. muster reconcile runs
it on workers; it also serves to look by hand.

  muster probe --server-name api.internal.atlas.k8s.local --ca ca.crt \
    --target name=:443 --target load-balancer=172.20.0.250:443

Without an address the server's name is looked up in the hosts file before every
call. A server that answers 401 or 403 answers.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(cmd.Context(), s)
			if err != nil {
				return err
			}
			return runProbe(cmd.Context(), s, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.serverName, "server-name", "", "`name` that the server's certificate has to carry")
	f.StringVar(&o.ca, "ca", "", "`file` with the authorities that it has to come from")
	f.StringVar(&o.hosts, "hosts-file", "/etc/hosts", "`file` to look the name up in")
	f.StringArrayVar(&o.targets, "target", nil, "path to probe, as `PATH=ADDRESS:PORT`, or PATH=:PORT by the name in the hosts file; may be given several times")
	f.DurationVar(&o.interval, "interval", 100*time.Millisecond, "pause between two calls of a path; a failed one is repeated after 20 ms")
	return cmd
}

// config checks the flags.
func (o *probeOptions) config(ctx context.Context, s console.Streams) (probe.Config, error) {
	cfg := probe.Config{ServerName: o.serverName, HostsFile: o.hosts, Interval: o.interval}
	switch {
	case o.serverName == "":
		return cfg, console.Usagef("no --server-name, such as api.internal.atlas.k8s.local")
	case o.ca == "":
		return cfg, console.Usagef("no --ca; a server that is not verified proves nothing")
	case len(o.targets) == 0:
		return cfg, console.Usagef("nothing to probe; give --target PATH=ADDRESS:PORT")
	case o.interval < minInterval:
		return cfg, console.Usagef("--interval %v; want %v or more", o.interval, minInterval)
	}
	pem, err := s.ReadFile(ctx, o.ca)
	if err != nil {
		return cfg, console.Usagef("--ca: %w", err)
	}
	cfg.Roots = x509.NewCertPool()
	if !cfg.Roots.AppendCertsFromPEM(pem) {
		return cfg, console.Usagef("--ca %s: no certificate in it", o.ca)
	}
	for _, text := range o.targets {
		t, err := parseTarget(text)
		if err != nil {
			return cfg, err
		}
		cfg.Targets = append(cfg.Targets, t)
	}
	return cfg, nil
}

func parseTarget(text string) (probe.Target, error) {
	path, at, ok := strings.Cut(text, "=")
	host, port, err := net.SplitHostPort(at)
	if !ok || path == "" || err != nil {
		return probe.Target{}, console.Usagef("--target %q; want PATH=ADDRESS:PORT or PATH=:PORT", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return probe.Target{}, console.Usagef("--target %q: port %q; want 1 to 65535", text, port)
	}
	t := probe.Target{Path: probe.Path(path), Port: uint16(number)}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.Addr = netip.AddrPortFrom(addr, t.Port)
	} else {
		t.Host = host
	}
	return t, nil
}

// runProbe probes until it is interrupted, which is how it normally ends.
func runProbe(ctx context.Context, s console.Streams, cfg probe.Config) error {
	fmt.Fprintf(s.Err, "muster: probing %s to %s\n", console.Count(len(cfg.Targets), "path", "paths"), cfg.ServerName)
	if err := probe.Run(ctx, cfg, s.WhileRead().Out); err != nil {
		return err
	}
	return ctx.Err()
}
