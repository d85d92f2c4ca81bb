package clustercmd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kopshook"
	"github.com/muster-dev/muster/internal/store"
)

type installOptions struct {
	statestore.Flags
	via     string
	program string
	sha256  string
	servers []string
	groups  []string
	undo    bool // uninstall
	yes     bool
	boot    kopshook.Config // of the boothook
}

func (o *installOptions) addTo(cmd *cobra.Command) {
	o.Flags.AddTo(cmd)
	f := cmd.Flags()
	f.StringVar(&o.via, "via", "", "`kops`: by fileAssets and hooks in the spec, which nodeup carries out on each node")
	f.StringSliceVar(&o.groups, "instance-group", nil, "this instance `group` alone, such as a canary; once for each (default: the cluster's spec, for all workers)")
	f.BoolVar(&o.yes, "yes", false, "write it without asking")
}

// NewInstall returns muster install.
func NewInstall(s console.Streams) *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:   "install --via kops --program URL --sha256 HASH [--name CLUSTER]",
		Short: "Put muster-agent on the workers of a kOps cluster",
		Long: `Install writes two fileAssets and a hook into the cluster's spec, or into single
instance groups with --instance-group. Every worker that is made from then on
fetches the program, runs it only if its SHA-256 is the one given, and starts it
before the kubelet. Shown as a diff first; nothing is written without --yes or a y
on the terminal, and only if uninstall is proven to give back the spec byte for byte.

No secret is written and no node enrols: the agent takes over the addresses that
kOps put into the node's hosts file, and any --server, and checks each by the
cluster's own CA. From then on the hosts file lists those that answer, and
127.0.0.1:7443 balances over them for programs that can be pointed there. It changes
nothing until it has found kOps's addresses, and a node where it cannot be fetched
or started works as it did before.

This is for clusters whose workers get addresses from kOps: topology none or hybrid.
With none and no spec.api.loadBalancer kOps has none to give. There each --server
is an address that the control plane keeps, and every group gets a boothook as well
(spec.additionalUserData), which writes them into the hosts file before nodeup asks
for kops-controller; a group with an entry of yours that does that keeps it.
A program is for one processor architecture; install groups that differ one by one.

` + console.ExitCodes,
		Example: "  muster install --via kops --name atlas.k8s.local --instance-group nodes-us-east-1a \\\n" +
			"    --program https://downloads.example.com/muster-agent-linux-amd64 --sha256 HASH",
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := o.config()
			if err != nil {
				return err
			}
			o.boot = config
			return runInstall(cmd.Context(), s, o, func(manifest []byte, whole bool) ([]byte, error) {
				config.Workers = whole
				return kopshook.Install(manifest, config)
			})
		},
	}
	o.addTo(cmd)
	f := cmd.Flags()
	f.StringVar(&o.program, "program", "", "`URL` of a muster-agent for the nodes' processor, without user or query")
	f.StringVar(&o.sha256, "sha256", "", "the program's `hash`, as sha256sum prints it")
	f.StringSliceVar(&o.servers, "server", nil, "`address` of a control-plane node that workers reach on ports 443 and 3988, as a way beside kOps's; once for each")
	return cmd
}

// NewUninstall returns muster uninstall.
func NewUninstall(s console.Streams) *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:   "uninstall --via kops [--name CLUSTER]",
		Short: "Take muster-agent out of a kOps cluster's spec",
		Long: `Uninstall takes out of the spec what install put there, and no other byte: of the
cluster's spec and every instance group, or of single groups with
--instance-group. Workers keep muster-agent until they are replaced; one that
loses it keeps the hosts file as it is, and kOps writes its own again at the next
boot.

` + console.ExitCodes,
		Example: "  muster uninstall --via kops --name atlas.k8s.local",
		Args:    console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.undo = true
			return runInstall(cmd.Context(), s, o, func(manifest []byte, _ bool) ([]byte, error) {
				return kopshook.Uninstall(manifest)
			})
		},
	}
	o.addTo(cmd)
	return cmd
}

func (o *installOptions) config() (kopshook.Config, error) {
	c := kopshook.Config{Cluster: o.Name, URL: o.program, SHA256: strings.ToLower(o.sha256)}
	for _, text := range o.servers {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return c, console.Usagef("--server %q is no address; give one without a port, such as 172.20.0.10", text)
		}
		c.Servers = append(c.Servers, addr)
	}
	if err := c.Validate(); err != nil {
		return c, console.Usagef("%w", console.FirstError(err))
	}
	return c, nil
}

// workersGetAddresses refuses clusters whose workers get no addresses from kOps.
func workersGetAddresses(c *cluster.Cluster, r cluster.Release) error {
	switch t := c.Topology(r); t {
	case cluster.None, cluster.Hybrid:
		return nil
	case cluster.Gossip:
		return console.Refusef("%s gossips: protokube writes its workers' hosts files every five seconds, and two owners would take each other's lines away; move it to hybrid or none first (muster plan)", c.Name)
	default:
		return console.Usagef("%s finds its API by DNS (%s), and kOps gives its workers no addresses; install the muster-agent package with a node.yaml of your own instead", c.Name, t)
	}
}

// runInstall changes the manifests that the options select. change is told whether one
// is that of the whole cluster.
func runInstall(ctx context.Context, s console.Streams, o installOptions, change func(manifest []byte, whole bool) ([]byte, error)) error {
	if o.via != "kops" {
		return console.Usagef("--via %q; want kops, the one way there is", o.via)
	}
	if err := o.RequireName(); err != nil {
		return err
	}
	reading, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	st, was, err := o.Read(reading, s)
	if err != nil {
		return err
	}
	parsed, err := was.Parse()
	if err != nil {
		return console.FirstError(err)
	}
	r, known, err := was.Release()
	if err != nil {
		return err
	}
	if !known {
		r = cluster.Release136
	}
	if !o.undo {
		if err := workersGetAddresses(parsed, r); err != nil {
			return err
		}
	}
	objects, err := o.objects(was, parsed)
	if err != nil {
		return err
	}
	alone := parsed.UsesNoneDNS() && parsed.API.LoadBalancer == nil // kOps has no addresses for workers
	if alone && !o.undo {
		if len(o.servers) == 0 {
			return console.Usagef("kOps gives workers of %s no address of the API: its topology is none, and it has no spec.api.loadBalancer; give each address that the control plane keeps with --server", o.Name)
		}
		change = o.withBoothook(s, change)
		if len(o.groups) == 0 {
			objects = append(workerGroups(was, parsed), objects...)
		}
	}
	p := statestore.Proposal{Store: st, Was: was, Now: was}
	changes := false
	for _, old := range objects {
		data, err := change(old.Data, old.Key == was.Spec.Key)
		if err != nil {
			return console.Usagef("%s: %w", store.Where(st, old.Key), err)
		}
		p.Now = p.Now.With(store.Object{Key: old.Key, Data: data})
		p.Writes = append(p.Writes, store.Write{Old: old, Data: data})
		changes = changes || !bytes.Equal(old.Data, data)
	}
	if _, err := p.Check(); err != nil {
		return err
	}
	settled, err := p.Apply(ctx, s, o.yes)
	if settled && changes && err == nil {
		fmt.Fprintf(s.Err, "next: %s\n", o.next(alone))
	}
	return err
}

// next says what to do once it is written.
func (o *installOptions) next(alone bool) string {
	if alone && o.undo {
		return fmt.Sprintf("before kops update cluster --name %s, change the topology or add spec.api.loadBalancer: without either kOps has no address of the API for new workers, and none would join", o.Name)
	}
	return fmt.Sprintf("kops update cluster --name %s --yes, then replace the workers one group after the other (kops rolling-update cluster)", o.Name)
}

// withBoothook adds the boothook to groups. Unless they are named, the agent is in the cluster's spec and not in theirs.
func (o *installOptions) withBoothook(s console.Streams, agent func([]byte, bool) ([]byte, error)) func([]byte, bool) ([]byte, error) {
	return func(manifest []byte, whole bool) (data []byte, err error) {
		if data = manifest; whole || len(o.groups) > 0 {
			if data, err = agent(manifest, whole); err != nil || whole {
				return data, err
			}
		}
		data, kept, err := kopshook.Boothook(data, o.boot)
		if kept != "" {
			fmt.Fprintf(s.Err, "note: the entry %q of spec.additionalUserData has kops-controller's name and stays as it is; see that it sets each --server\n", kept)
		}
		return data, err
	}
}

// workerGroups returns the objects of the groups of workers.
func workerGroups(c *store.Cluster, parsed *cluster.Cluster) (objects []store.Object) {
	for _, g := range parsed.Groups {
		if object, ok := c.Group(g.Name); ok && g.Role == cluster.RoleNode {
			objects = append(objects, object)
		}
	}
	return objects
}

// objects returns the manifests to change: the named groups, or else the cluster's spec;
// to undo, all groups as well.
func (o *installOptions) objects(c *store.Cluster, parsed *cluster.Cluster) ([]store.Object, error) {
	var objects []store.Object
	for _, name := range o.groups {
		g, ok := c.Group(name)
		if !ok {
			return nil, noGroup(c, name)
		}
		i := slices.IndexFunc(parsed.Groups, func(g cluster.Group) bool { return g.Name == name })
		if !o.undo && i >= 0 && parsed.Groups[i].Role != cluster.RoleNode {
			return nil, console.Usagef("instance group %q has role %s; muster-agent goes to workers this way, and nodes with an API server find it at home", name, parsed.Groups[i].Role)
		}
		objects = append(objects, g)
	}
	if len(objects) > 0 {
		return objects, nil
	}
	if o.undo {
		objects = append(objects, c.Groups...)
	}
	return append(objects, c.Spec), nil
}
