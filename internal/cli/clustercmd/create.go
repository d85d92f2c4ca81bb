package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/manifest"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

type createOptions struct {
	statestore.Flags
	manifest.Config
	cloud, loadBalancer string
	network             string
	access              []string
	dns                 string
	set                 []string
	yes                 bool
}

// NewCreate returns muster create.
func NewCreate(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create cluster",
		Short: "Make the spec of a new cluster that needs no DNS and does not gossip",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o createOptions
	sub := &cobra.Command{
		Use:   "cluster NAME --cloud CLOUD --zones ZONES --kubernetes-version VERSION",
		Short: "Make the spec of a new cluster",
		Long: `Create writes a Cluster and its InstanceGroups to the state store: DNS type None,
which takes any name, also one in .k8s.local. Without --yes it prints the manifest
and writes nothing. kOps builds the cluster (kops update cluster --yes). What a
cloud wants beside the flags here is given with --set.

A cluster that gossips is refused: kOps 1.37 has none.

` + console.ExitCodes,
		Example: "  muster create cluster atlas.k8s.local --cloud aws --zones us-east-1a,us-east-1b --kubernetes-version 1.34.2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.ParseName(cmd, args); err != nil {
				return err
			}
			return runCreate(cmd.Context(), s, o)
		},
	}
	o.AddTo(sub)
	f := sub.Flags()
	f.StringVar(&o.cloud, "cloud", "", "`cloud`: aws, azure, digitalocean, gce, hetzner, linode, metal, openstack or scaleway")
	f.StringSliceVar(&o.Zones, "zones", nil, "`zones` of one region, each with a subnet")
	f.StringVar(&o.KubernetesVersion, "kubernetes-version", "", "`version` of kubernetes")
	f.IntVar(&o.ControlPlaneCount, "control-plane-count", 1, "control-plane `nodes`: 1, 3, 5 or 7")
	f.IntVar(&o.NodeCount, "node-count", 2, "`workers`")
	f.StringVar(&o.ControlPlaneSize, "control-plane-size", "", "machine `type` of the control plane (default: kOps's choice)")
	f.StringVar(&o.NodeSize, "node-size", "", "machine `type` of the workers (default: kOps's choice)")
	f.StringVar(&o.Image, "image", "", "`image` of all nodes (default: kOps's choice)")
	f.StringVar(&o.network, "network-cidr", "", "the cluster's own `network` (default 172.20.0.0/16, where the cloud has one)")
	f.StringSliceVar(&o.access, "admin-access", nil, "`networks` that may reach the API and SSH (default: all)")
	f.StringVar(&o.loadBalancer, "api-loadbalancer-type", "public", "`public` or internal")
	f.StringVar(&o.Project, "project", "", "`project` on gce")
	f.StringVar(&o.dns, "dns", "none", "`none`; the other values of kOps are refused")
	f.StringArrayVar(&o.set, "set", nil, "`PATH=VALUE`: set this field of the Cluster; once for each")
	f.BoolVar(&o.yes, "yes", false, "write it")
	cmd.AddCommand(sub)
	return cmd
}

// config parses the flags that are not plain values.
func (o createOptions) config(base string) (manifest.Config, error) {
	c := o.Config
	c.Name, c.StateStore, c.Cloud = o.Flags.Name, base, cluster.Cloud(o.cloud)
	switch dns := strings.ToLower(o.dns); {
	case dns == "none" || dns == "":
	case dns == "gossip" || (dns == "public" || dns == "private") && cluster.IsGossipName(o.Flags.Name):
		return c, console.Refusef("--dns %s makes %q a gossip cluster, which kOps %s refuses; leave --dns out: a cluster without DNS may have any name, .k8s.local too", o.dns, o.Flags.Name, cluster.Deadline().Refused)
	case dns == "public" || dns == "private":
		return c, console.Usagef("--dns %s: muster makes clusters without DNS only; leave --dns out, or make this one with kops create cluster", o.dns)
	default:
		return c, console.Usagef("--dns %q; want none", o.dns)
	}
	switch strings.ToLower(o.loadBalancer) {
	case "public":
		c.LoadBalancer = cluster.LoadBalancerPublic
	case "internal":
		c.LoadBalancer = cluster.LoadBalancerInternal
	default:
		return c, console.Usagef("--api-loadbalancer-type %q; want public or internal", o.loadBalancer)
	}
	if o.network != "" {
		network, err := netip.ParsePrefix(o.network)
		if err != nil {
			return c, console.Usagef("--network-cidr %q is no CIDR; write it as 172.20.0.0/16", o.network)
		}
		c.Network = network
	}
	for _, text := range o.access {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return c, console.Usagef("--admin-access %q is no CIDR; write it as 192.0.2.0/24", text)
		}
		c.Access = append(c.Access, p)
	}
	return c, nil
}

func runCreate(ctx context.Context, s console.Streams, o createOptions) error {
	changes, err := parseChanges(o.set)
	if err != nil {
		return err
	}
	// Faults of the flags are reported before a state store is opened.
	if _, err := o.config(""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	st, err := o.Open(ctx, s)
	if err != nil {
		return err
	}
	c, err := o.config(st.URL())
	if err != nil {
		return err
	}
	m, err := manifest.New(c)
	if err != nil {
		return console.Usagef("create %s: %w", o.Flags.Name, console.FirstError(err))
	}
	data, err := spec.Edit(m.Cluster.Data, changes...)
	if err != nil {
		return console.Usagef("--set: %w", err)
	}
	switch _, err := store.Read(ctx, st, o.Flags.Name); {
	case err == nil:
		return console.Usagef("%s: there is a cluster %q already; change it with muster edit", st.URL(), o.Flags.Name)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	p, err := proposeNew(ctx, st, o.Flags.Name, data, m.Groups)
	if err != nil {
		return err
	}
	parsed, err := p.Check()
	if err != nil {
		return err
	}
	for _, f := range parsed.Refusals(cluster.None, cluster.Release136) {
		fmt.Fprintf(s.Err, "note: %s\n", f)
	}
	if !o.yes {
		_, err := s.Out.Write(p.Now.Manifest())
		fmt.Fprintln(s.Err, "nothing written; repeat with --yes to write it")
		return err
	}
	if err := store.WriteAll(ctx, st, p.Writes); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "wrote %s: 1 cluster, %d instance groups\n", store.Where(st, o.Flags.Name), len(m.Groups))
	fmt.Fprintf(s.Out, "next: kops update cluster --name %s --state %s --yes\n", o.Flags.Name, st.URL())
	return nil
}

// proposeNew proposes a cluster, groups first: it exists once its spec does. Groups that
// a killed writer left are overwritten; others would become part of the cluster, and are
// an error.
func proposeNew(ctx context.Context, st store.Store, name string, spec []byte, groups []manifest.Document) (statestore.Proposal, error) {
	layout := store.Layout(name)
	config := store.Object{Key: layout.Config(), Data: spec}
	p := statestore.Proposal{Store: st, Now: store.Draft(st, name, config)}
	left, err := store.Groups(ctx, st, name)
	if err != nil {
		return p, err
	}
	for _, g := range groups {
		old := store.Object{Key: layout.Group(g.Name)}
		if i := slices.IndexFunc(left, func(o store.Object) bool { return o.Key == old.Key }); i >= 0 {
			old = left[i]
			left = slices.Delete(left, i, i+1)
		}
		p.Now = p.Now.With(store.Object{Key: old.Key, Data: g.Data})
		p.Writes = append(p.Writes, store.Write{Old: old, Data: g.Data})
	}
	if len(left) > 0 {
		return p, console.Usagef("%s: is left from a cluster without a spec; remove it, or take another name", store.Where(st, left[0].Key))
	}
	p.Writes = append(p.Writes, store.Write{Old: store.Object{Key: config.Key}, Data: spec})
	return p, nil
}
