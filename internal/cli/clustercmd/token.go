package clustercmd

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/node"
)

// NewToken returns muster token.
func NewToken(s console.Streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "One-time enrolment tokens: create, list, revoke",
		Long: `A token lets one worker enrol once: it is stored hashed, expires, and is worth
nothing after use. The store is tokens.json in --dir, a control-plane node's
directory as muster init made it, and only that node knows its tokens: workers try
every control-plane node until one does.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", "/etc/muster", "a control-plane node's `directory`, as muster init made it")
	cmd.AddCommand(newTokenCreate(s, &dir), newTokenList(s, &dir), newTokenRevoke(s, &dir))
	return cmd
}

type tokenOptions struct {
	node    string
	ttl     time.Duration
	out     string
	balance string
}

func newTokenCreate(s console.Streams, dir *string) *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "create [--node WORKER] [--out DIR]",
		Short: "Make a token, and with --node the worker's configuration",
		Long: `Create makes a one-time token. With --node it is good for that worker only, and a
directory is written with everything the worker needs: node.yaml and the token.
Without --node the token is printed, once.`,
		Example: "  muster token create --node worker-1 --out worker-1\n  muster token create --ttl 1h",
		Args:    console.NoArgs,
		RunE:    func(_ *cobra.Command, _ []string) error { return tokenCreate(s, *dir, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.node, "node", "", "bind the token to this `worker`, and write its configuration")
	f.DurationVar(&o.ttl, "ttl", time.Hour, "how long the token is good for")
	f.StringVar(&o.out, "out", "", "`directory` for the worker's configuration (default: the worker's name)")
	f.StringVar(&o.balance, "balance", "127.0.0.1:6443", "loopback `address` of the worker's local balancer; \"\" for none")
	return cmd
}

// loadCluster reads the cluster.yaml of a directory that init made.
func loadCluster(dir string) (clusterFile, error) {
	var c clusterFile
	path := filepath.Join(dir, "cluster.yaml")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, console.Usagef("no %s; make a cluster with muster init, or point --dir at one", path)
	}
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return c, console.Usagef("%s: %w", path, err)
	}
	return c, nil
}

func tokensIn(dir string) *enrol.TokenStore {
	return &enrol.TokenStore{Path: filepath.Join(dir, "tokens.json")}
}

func tokenCreate(s console.Streams, dir string, o tokenOptions) error {
	c, err := loadCluster(dir)
	if err != nil {
		return err
	}
	if o.ttl <= 0 || o.ttl > 30*24*time.Hour {
		return console.Usagef("--ttl %v; want more than 0 and at most 720h", o.ttl)
	}
	if o.node == "" {
		token, err := tokensIn(dir).Create(o.ttl, "", time.Now())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.Out, token.Text())
		return err
	}
	if err := enrol.CheckNodeName(o.node); err != nil {
		return console.Usagef("--node: %w", err)
	}
	var balance node.AddrPort
	if o.balance != "" {
		if balance.AddrPort, err = netip.ParseAddrPort(o.balance); err != nil || !balance.Addr().IsLoopback() {
			return console.Usagef("--balance %q; want a loopback ADDRESS:PORT", o.balance)
		}
	}
	return c.writeWorker(s, dir, o, balance)
}

// writeWorker writes a worker's directory. An existing configuration is never
// overwritten: the worker may be running from it.
func (c clusterFile) writeWorker(s console.Streams, dir string, o tokenOptions, balance node.AddrPort) error {
	out := o.out
	if out == "" {
		out = o.node
	}
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	config := filepath.Join(out, "node.yaml")
	if _, err := os.Stat(config); err == nil {
		return console.Usagef("%s exists; another --out, or remove it", config)
	}
	ca, err := enrol.LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), c.Cluster)
	if err != nil {
		return err
	}
	token, err := tokensIn(dir).Create(o.ttl, o.node, time.Now())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, "state"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "token"), []byte(token.Text()+"\n"), 0o600); err != nil {
		return err
	}
	if err := writeYAML(config, "# Worker "+o.node+"; run muster-agent --config with this file.\n", c.workerConfig(o.node, enrol.PinOf(ca.Certificate).String(), balance)); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "token %s for %s, good for %s, and its configuration in %s\n", token.ID, o.node, console.Duration(o.ttl), out)
	fmt.Fprintf(s.Out, "next: muster-agent --config %s\n", config)
	return nil
}

func newTokenList(s console.Streams, dir *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens; their secrets are not kept and cannot be shown",
		Args:  console.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if _, err := loadCluster(*dir); err != nil {
				return err
			}
			tokens, err := tokensIn(*dir).List()
			if err != nil {
				return err
			}
			if output == "json" {
				return console.WriteJSON(s.Out, tokens)
			}
			if output != "" {
				return console.Usagef("-o %q; want json", output)
			}
			tab := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(tab, "token\tfor\tstate\texpires")
			for _, t := range tokens {
				fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", t.ID, orAny(t.Node), tokenState(t, time.Now()), t.Expires.Local().Format(time.DateTime))
			}
			return tab.Flush()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

func orAny(node string) string {
	if node == "" {
		return "any worker"
	}
	return node
}

func tokenState(t enrol.TokenInfo, now time.Time) string {
	switch {
	case !t.Used.IsZero():
		return fmt.Sprintf("used by %s at %s", t.UsedBy, t.Used.Local().Format(time.DateTime))
	case now.After(t.Expires):
		return "expired"
	default:
		return "unused"
	}
}

func newTokenRevoke(s console.Streams, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "Make a token worth nothing",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return console.Usagef("want one token's id; muster token list shows them")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := loadCluster(*dir); err != nil {
				return err
			}
			if err := tokensIn(*dir).Revoke(args[0]); err != nil {
				if errors.Is(err, enrol.ErrTokenUnknown) {
					return console.Usagef("no token %q; muster token list shows them", args[0])
				}
				return err
			}
			_, err := fmt.Fprintf(s.Out, "token %s revoked; certificates that were issued for it stay good\n", args[0])
			return err
		},
	}
}
