package protokube

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/secretfile"
	"github.com/muster-dev/muster/internal/seeds"
)

// Verb selects this mode; so does any of protokube's flags.
const Verb = "protokube"

const usage = `%[1]s in the place of kOps's protokube: joins the gossip of a kOps cluster on
protokube's own ports, beside real ones, and keeps the same hosts block, from what can
be believed.

  %[1]s [protokube] FLAGS        run it; any of these flags asks for this mode

protokube's flags, with its defaults:
  --cloud NAME                        the cloud, which is asked for what --node-name, --cluster and
                                      --seeds leave open; metal has nobody to ask
  --containerized                     the node's root is mounted at /rootfs
  --gossip                            gossip; on unless set to false
  --gossip-protocol mesh              the primary overlay: mesh or memberlist
  --gossip-listen 0.0.0.0:3999
  --gossip-secret SECRET              everybody on the node can read it; better: --gossip-secret-file
  --gossip-protocol-secondary memberlist
  --gossip-listen-secondary 0.0.0.0:4000       an empty protocol leaves the secondary out
  --gossip-secret-secondary SECRET

%[1]s's own:
  --gossip-secret-file FILE           the secret in a file of mode 0600
  --gossip-secret-secondary-file FILE
  --node-name NAME                    this peer's name, unique (default: the cloud's, of the instance)
  --cluster NAME                      the cluster's name (default: the cloud's tag of the instance)
  --seeds ADDRESS[:PORT],...          where peers may be; the port is the primary overlay's
                                      (default: the control plane, as the cloud has it)
  --seeds-file FILE                   more of them, one a line, re-read
  --networks CIDR,...                 where believed addresses lie (default: private networks;
                                      a cluster with public IPv6 addresses has to say)
  --names NAME,...                    which of the cluster's names reach the hosts block
                                      (default: api.internal, api, kops-controller.internal)
  --publish NAME=ADDRESS[:PORT][/PATH]
                                      tell the overlays that this node serves NAME, as long as PATH
                                      answers there over HTTPS (default: 443/readyz; 3988/healthz for
                                      kops-controller.internal). Repeatable. Not beside dns-controller,
                                      which publishes the same
  --ca FILE                           the CA of those servers' certificates
  --hosts-file FILE                   default /etc/hosts
  --state-dir DIR                     default /var/lib/muster
  --status ADDRESS:PORT | PATH | off  status and metrics (default 127.0.0.1:7948; PATH: a Unix socket)

Gossip is deprecated: kOps 1.36 is the last that has it. muster rehearse -f CLUSTER shows the way off it.
exit codes: 0 done, 1 failed, 2 usage or bad input
`

// Wanted reports whether a command line selects this mode, by its verb or by any of its flags.
func Wanted(args []string) bool {
	if len(args) > 0 && args[0] == Verb {
		return true
	}
	var f commandLine
	known := f.flagSet()
	for _, arg := range args {
		if arg == "--" || !strings.HasPrefix(arg, "-") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if known.Lookup(name) != nil && !slices.Contains(klogFlags, name) {
			return true
		}
	}
	return false
}

// klogFlags are the flags of protokube's logging library. All but v are ignored: logs go to standard error, and from
// there to the journal.
var klogFlags = []string{"v", "logtostderr", "alsologtostderr", "vmodule"}

// commandLine has the flags as given.
type commandLine struct {
	cfg                       Config
	containerized, gossip     bool
	listen, listenSecondary   string
	secret, secretSecondary   string
	secretFile, secondaryFile string
	names, publish            []string
	hosts, status             string
}

func (p *commandLine) flagSet() *flag.FlagSet {
	f := flag.NewFlagSet(Verb, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&p.cfg.Cloud, "cloud", "", "")
	f.BoolVar(&p.containerized, "containerized", false, "")
	f.BoolVar(&p.gossip, "gossip", true, "")
	f.StringVar(&p.cfg.Primary.Protocol, "gossip-protocol", Mesh, "")
	f.StringVar(&p.listen, "gossip-listen", "0.0.0.0:3999", "")
	f.StringVar(&p.secret, "gossip-secret", "", "")
	f.StringVar(&p.cfg.Secondary.Protocol, "gossip-protocol-secondary", Memberlist, "")
	f.StringVar(&p.listenSecondary, "gossip-listen-secondary", "0.0.0.0:4000", "")
	f.StringVar(&p.secretSecondary, "gossip-secret-secondary", "", "")

	f.StringVar(&p.secretFile, "gossip-secret-file", "", "")
	f.StringVar(&p.secondaryFile, "gossip-secret-secondary-file", "", "")
	f.StringVar(&p.cfg.Node, "node-name", "", "")
	f.StringVar(&p.cfg.Cluster, "cluster", "", "")
	f.Func("seeds", "", commaSeparated(func(text string) error {
		addr, err := seeds.Parse(text)
		p.cfg.Seeds = append(p.cfg.Seeds, addr)
		return err
	}))
	f.StringVar(&p.cfg.SeedsFile, "seeds-file", "", "")
	f.Func("networks", "", commaSeparated(func(text string) error {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/16", text)
		}
		p.cfg.Networks = append(p.cfg.Networks, network.Masked())
		return nil
	}))
	f.Func("names", "", commaSeparated(func(text string) error {
		p.names = append(p.names, text)
		return nil
	}))
	f.Func("publish", "", func(text string) error {
		p.publish = append(p.publish, text)
		return nil
	})
	f.StringVar(&p.cfg.CA, "ca", "", "")
	f.StringVar(&p.hosts, "hosts-file", "", "")
	f.StringVar(&p.cfg.StateDir, "state-dir", "/var/lib/muster", "")
	f.StringVar(&p.status, "status", fmt.Sprintf("127.0.0.1:%d", node.StatusPort), "")

	f.IntVar(&p.cfg.Verbosity, "v", 0, "")
	f.Bool("logtostderr", true, "")
	f.Bool("alsologtostderr", false, "")
	f.String("vmodule", "", "")
	return f
}

// commaSeparated returns a flag's set function that calls add for every element of a comma-separated list.
func commaSeparated(add func(string) error) func(string) error {
	return func(list string) error {
		for text := range strings.SplitSeq(list, ",") {
			if err := add(strings.TrimSpace(text)); err != nil {
				return err
			}
		}
		return nil
	}
}

// parseArgs parses a command line, and queries the cloud for what it leaves open. For --help the error is
// flag.ErrHelp.
func parseArgs(ctx context.Context, args []string, clouds Clouds) (Config, error) {
	if len(args) > 0 && args[0] == Verb {
		args = args[1:]
	}
	var p commandLine
	f := p.flagSet()
	if err := f.Parse(args); err != nil {
		return Config{}, err
	}
	if f.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if !p.gossip {
		return Config{}, errors.New("--gossip=false: without gossip there is nothing to do here; workers run muster-agent instead")
	}
	var err error
	if p.cfg, err = p.cfg.completeFromCloud(ctx, clouds); err != nil {
		return Config{}, err
	}
	cfg, err := p.config()
	if err != nil {
		return Config{}, err
	}
	return cfg, cfg.validate()
}

func (p *commandLine) config() (Config, error) {
	cfg := p.cfg
	cfg.Cluster = strings.ToLower(strings.TrimSuffix(cfg.Cluster, "."))
	cfg.HostsFile = p.hosts
	if p.hosts == "" {
		cfg.HostsFile = "/etc/hosts"
		if p.containerized {
			cfg.HostsFile = "/rootfs/etc/hosts"
		}
	}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	for _, path := range []*string{&cfg.HostsFile, &cfg.StateDir} {
		abs, err := filepath.Abs(*path)
		note(err)
		*path = abs
	}
	var err error
	cfg.Primary.Listen, err = listenAddr("--gossip-listen", p.listen)
	note(err)
	cfg.Primary.Secret, err = secretOf("--gossip-secret", p.secret, p.secretFile)
	note(err)
	if cfg.Secondary.Protocol != "" {
		cfg.Secondary.Listen, err = listenAddr("--gossip-listen-secondary", p.listenSecondary)
		note(err)
		cfg.Secondary.Secret, err = secretOf("--gossip-secret-secondary", p.secretSecondary, p.secondaryFile)
		note(err)
	}
	for flag, value := range map[string]string{"--gossip-secret": p.secret, "--gossip-secret-secondary": p.secretSecondary} {
		if value != "" {
			cfg.secretFlags = append(cfg.secretFlags, flag)
		}
	}
	for _, name := range p.names {
		cfg.Names = append(cfg.Names, cfg.fullName(name))
	}
	for _, text := range p.publish {
		publication, err := cfg.publication(text)
		note(err)
		cfg.Publish = append(cfg.Publish, publication)
	}
	cfg.Status, err = parseStatus(p.status)
	note(err)
	return cfg.withDefaults(), errors.Join(errs...)
}

// listenAddr parses a listen address. No host means any address, as for protokube.
func listenAddr(flag, text string) (netip.AddrPort, error) {
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		return addr, fmt.Errorf("%s %q: want ADDRESS:PORT", flag, text)
	}
	return addr, nil
}

// maxSecret bounds a secret's file.
const maxSecret = 4 << 10

// secretOf returns a secret from its flag or its file.
func secretOf(flag, value, file string) ([]byte, error) {
	switch {
	case file == "":
		return []byte(value), nil
	case value != "":
		return nil, fmt.Errorf("%s and %s-file are both given: keep the file", flag, flag)
	}
	data, err := secretfile.Read(file, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("%s-file: %w", flag, err)
	}
	return []byte(strings.TrimRight(string(data), "\r\n")), nil
}

// fullName appends the cluster's name unless name has it.
func (c Config) fullName(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if c.Cluster == "" || strings.HasSuffix(name, "."+c.Cluster) {
		return name
	}
	return name + "." + c.Cluster
}

// publication parses NAME=ADDRESS[:PORT][/PATH].
func (c Config) publication(text string) (p Publication, err error) {
	name, rest, found := strings.Cut(text, "=")
	where, path, _ := strings.Cut(rest, "/")
	p = Publication{Name: c.fullName(name), Path: "/" + path}
	p.Addr, err = seeds.Parse(where)
	if !found || name == "" || err != nil || p.Addr.Addr().Zone() != "" {
		return p, fmt.Errorf("--publish %q: want NAME=ADDRESS[:PORT][/PATH]", text)
	}
	port, usual := defaultPort(p.Name)
	if p.Addr.Port() == 0 {
		p.Addr = netip.AddrPortFrom(p.Addr.Addr().Unmap(), port)
	}
	if path == "" {
		p.Path = usual
	}
	return p, nil
}

// defaultPort returns the port of a name's servers in kOps, and the path of their readiness check.
func defaultPort(name string) (port uint16, path string) {
	if strings.HasPrefix(name, "kops-controller.internal") {
		return 3988, "/healthz"
	}
	return 443, "/readyz"
}

func parseStatus(text string) (node.Status, error) {
	switch {
	case text == "off":
		return node.Status{}, nil
	case strings.HasPrefix(text, "/"):
		at := node.Status{Socket: text}
		if err := at.Check(); err != nil {
			return node.Status{}, fmt.Errorf("--status: %w", err)
		}
		return at, nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return node.Status{}, fmt.Errorf("--status %q: want ADDRESS:PORT, the path of a socket, or off", text)
	}
	return node.Status{Listen: node.AddrPort{AddrPort: addr}}, nil
}
