package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

// NewGet returns muster get.
func NewGet(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get clusters|instancegroups",
		Short: "Show clusters and instance groups of a state store",
		Long:  "Get reads kOps's state store and shows what is there. It changes nothing.\n\n" + console.ExitCodes,
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGetClusters(s), newGetGroups(s))
	return cmd
}

func newGetClusters(s console.Streams) *cobra.Command {
	var f statestore.Flags
	var output string
	cmd := &cobra.Command{
		Use:     "clusters [NAME]",
		Aliases: []string{"cluster"},
		Short:   "Show the clusters of a state store, or one of them",
		Example: "  muster get clusters --state s3://kops-state\n  muster get cluster atlas.k8s.local -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, getOutputs...); err != nil {
				return err
			}
			// As in kOps, the name in the environment does not select a cluster here.
			if len(args) > 0 || cmd.Flags().Changed("name") {
				if err := f.ParseName(cmd, args); err != nil {
					return err
				}
			} else {
				f.Name = ""
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			return getClusters(ctx, s, f, output)
		},
	}
	f.AddTo(cmd)
	addOutput(cmd, &output)
	return cmd
}

var getOutputs = []string{"table", "wide", "yaml", "json"}

func addOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "`form`: table, wide, yaml (as it stands in the store) or json")
}

func getClusters(ctx context.Context, s console.Streams, f statestore.Flags, output string) error {
	st, err := f.Open(ctx, s)
	if err != nil {
		return err
	}
	read, err := readClusters(ctx, st, f.Name)
	if err != nil {
		return err
	}
	if len(read) == 0 {
		fmt.Fprintf(s.Err, "muster: no clusters in %s\n", st.URL())
		return nil
	}
	var objects []store.Object
	for _, c := range read {
		objects = append(objects, c.Spec)
	}
	rows, bad := clusterRows(s, read)
	switch output {
	case "yaml":
		writeYAMLObjects(s.Out, objects)
		return bad
	case "json":
		return errors.Join(writeJSONObjects(s.Out, st, objects, f.Name != ""), bad)
	}
	header := []string{"NAME", "CLOUD", "ZONES", "KOPS", "TOPOLOGY"}
	if output == "wide" {
		header = append(header, "KUBERNETES", "LOAD BALANCER", "CONTROL PLANE", "NODES")
	}
	table(s.Out, header, rows)
	return bad
}

// readClusters reads the named cluster, or all of them.
func readClusters(ctx context.Context, st store.Store, name string) ([]*store.Cluster, error) {
	if name != "" {
		c, err := store.Read(ctx, st, name)
		return []*store.Cluster{c}, err
	}
	names, err := store.Clusters(ctx, st)
	if err != nil {
		return nil, err
	}
	return store.ReadAll(ctx, st, names)
}

// clusterRows warns of clusters that gossip, and returns a row for each cluster. bad is
// the first fault of those that cannot be read; they have a row as well.
func clusterRows(s console.Streams, read []*store.Cluster) (rows [][]string, bad error) {
	for _, c := range read {
		parsed, err := c.Parse()
		if err != nil {
			if bad == nil {
				bad = console.FirstError(err)
			}
			rows = append(rows, []string{c.Name, "unknown", "", console.OrNotSet(c.KopsVersion), "unknown", "", "", "", ""})
			continue
		}
		statestore.WarnGossip(s, c, parsed)
		rows = append(rows, clusterRow(c, parsed))
	}
	return rows, bad
}

func clusterRow(c *store.Cluster, parsed *cluster.Cluster) []string {
	var zones []string
	for _, sub := range parsed.Subnets {
		if z := sub.Zone; z != "" && !slices.Contains(zones, z) {
			zones = append(zones, z)
		}
	}
	balancer := "none"
	if lb := parsed.API.LoadBalancer; lb != nil {
		balancer = strings.TrimSpace(string(lb.Class) + " " + string(lb.Type))
	}
	return []string{
		c.Name, string(parsed.Cloud), strings.Join(zones, ","), console.OrNotSet(c.KopsVersion), topologyOf(c, parsed),
		parsed.KubernetesVersion, balancer, strconv.Itoa(parsed.Size(cluster.RoleControlPlane)), strconv.Itoa(parsed.Size(cluster.RoleNode)),
	}
}

// topologyOf returns the topology under the kOps that last updated the cluster. If that
// is not known and matters, it returns both possibilities.
func topologyOf(c *store.Cluster, parsed *cluster.Cluster) string {
	if r, ok, err := c.Release(); ok && err == nil {
		return string(parsed.Topology(r))
	}
	was, is := parsed.Topology(cluster.Release135), parsed.Topology(cluster.Release136)
	if was == is {
		return string(is)
	}
	return fmt.Sprintf("%s or %s", was, is)
}

func newGetGroups(s console.Streams) *cobra.Command {
	var f statestore.Flags
	var output string
	cmd := &cobra.Command{
		Use:     "instancegroups [GROUP]",
		Aliases: []string{"instancegroup", "ig"},
		Short:   "Show a cluster's instance groups, or one of them",
		Example: "  muster get ig --name atlas.k8s.local --state s3://kops-state",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return console.CommandLinef(cmd, "%s takes one group, not %d", cmd.CommandPath(), len(args))
			}
			if err := errors.Join(console.CheckOutput(output, getOutputs...), f.RequireName()); err != nil {
				return console.FirstError(err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			return getGroups(ctx, s, f, args, output)
		},
	}
	f.AddTo(cmd)
	addOutput(cmd, &output)
	return cmd
}

// groupDoc has the fields of an instance group that package cluster does not read.
type groupDoc struct {
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Role        string   `yaml:"role"`
		MachineType string   `yaml:"machineType"`
		MinSize     *int     `yaml:"minSize"`
		MaxSize     *int     `yaml:"maxSize"`
		Subnets     []string `yaml:"subnets"`
		Zones       []string `yaml:"zones"`
		Image       string   `yaml:"image"`
	} `yaml:"spec"`
}

func getGroups(ctx context.Context, s console.Streams, f statestore.Flags, args []string, output string) error {
	st, c, err := f.Read(ctx, s)
	if err != nil {
		return err
	}
	objects := c.Groups
	if len(args) == 1 {
		o, ok := c.Group(args[0])
		if !ok {
			return noGroup(c, args[0])
		}
		objects = []store.Object{o}
	}
	parsed, bad := c.Parse()
	if bad == nil {
		statestore.WarnGossip(s, c, parsed)
	}
	switch output {
	case "yaml":
		writeYAMLObjects(s.Out, objects)
		return console.FirstError(bad)
	case "json":
		return errors.Join(writeJSONObjects(s.Out, st, objects, len(args) == 1), console.FirstError(bad))
	}
	header := []string{"NAME", "ROLE", "MACHINETYPE", "MIN", "MAX", "ZONES"}
	if output == "wide" {
		header = append(header, "IMAGE")
	}
	var rows [][]string
	for _, o := range objects {
		var doc groupDoc
		if err := spec.Decode(o.Data, &doc); err != nil {
			rows = append(rows, []string{o.Key[strings.LastIndex(o.Key, "/")+1:], "unknown", "", "", "", "", ""})
			bad = errors.Join(bad, console.Usagef("%s: not YAML: %w", store.Where(st, o.Key), err))
			continue
		}
		role := doc.Spec.Role
		if role == "Master" {
			role = string(cluster.RoleControlPlane)
		}
		rows = append(rows, []string{
			doc.Metadata.Name, role, doc.Spec.MachineType, orBlank(doc.Spec.MinSize), orBlank(doc.Spec.MaxSize),
			strings.Join(append(doc.Spec.Subnets, doc.Spec.Zones...), ","), doc.Spec.Image,
		})
	}
	table(s.Out, header, rows)
	return console.FirstError(bad)
}

func noGroup(c *store.Cluster, name string) error {
	var names []string
	for _, o := range c.Groups {
		names = append(names, o.Key[strings.LastIndex(o.Key, "/")+1:])
	}
	return console.Usagef("cluster %s has no instance group %q; it has %s", c.Name, name, console.OrNone(names))
}

func orBlank(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

// table prints as many columns as the header has.
func table(w io.Writer, header []string, rows [][]string) {
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(tab, strings.Join(row[:len(header)], "\t"))
	}
	tab.Flush()
}

// writeYAMLObjects writes objects as they stand in the store.
func writeYAMLObjects(w io.Writer, objects []store.Object) {
	for i, o := range objects {
		if i > 0 {
			fmt.Fprintln(w, "---")
		}
		_, _ = io.WriteString(w, strings.TrimSuffix(string(o.Data), "\n")+"\n")
	}
}

// writeJSONObjects writes one object, or a list of them.
func writeJSONObjects(w io.Writer, st store.Store, objects []store.Object, one bool) error {
	docs := make([]map[string]any, len(objects))
	for i, o := range objects {
		if err := spec.Decode(o.Data, &docs[i]); err != nil {
			return console.Usagef("%s: not YAML: %w", store.Where(st, o.Key), err)
		}
	}
	if one && len(docs) == 1 {
		return console.WriteJSON(w, docs[0])
	}
	return console.WriteJSON(w, docs)
}
