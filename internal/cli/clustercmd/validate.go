package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

// NewValidate returns muster validate.
func NewValidate(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate cluster",
		Short: "Look for faults in what the state store holds of a cluster",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f statestore.Flags
	var output string
	sub := &cobra.Command{
		Use:   "cluster [NAME]",
		Short: "Look for faults in a cluster's spec",
		Long: `Validate reads a cluster's spec and says what kOps refuses in it, what kOps accepts
but leaves nodes without a way to the API, and what in the store does not fit
together. It asks neither cloud nor nodes, unlike kops validate cluster; whether
nodes join is what muster audit cluster says. It exits 3 when it finds something.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, "json"); err != nil {
				return err
			}
			if err := f.ParseName(cmd, args); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			return validateCluster(ctx, s, f, output)
		},
	}
	f.AddTo(sub)
	sub.Flags().StringVarP(&output, "output", "o", "", "json: one JSON object on standard output")
	cmd.AddCommand(sub)
	return cmd
}

// validation is the result of validate.
type validation struct {
	Cluster     string    `json:"cluster"`
	Topology    string    `json:"topology"`
	KopsVersion string    `json:"kopsVersion,omitempty"`
	Findings    []finding `json:"findings"`
}

// finding is one fault.
type finding struct {
	Code string `json:"code"`
	// Refused: kOps refuses the spec for it. Otherwise kOps accepts it.
	Refused bool   `json:"refusedByKops"`
	Where   string `json:"where"`
	Why     string `json:"why"`
	Next    string `json:"next"`
}

func validateCluster(ctx context.Context, s console.Streams, f statestore.Flags, output string) error {
	st, c, err := f.Read(ctx, s)
	if err != nil {
		return err
	}
	parsed, err := c.Parse()
	if err != nil {
		return console.FirstError(err)
	}
	completed, err := st.Get(ctx, store.Layout(c.Name).CompletedSpec())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	statestore.WarnGossip(s, c, parsed)
	v := validation{Cluster: c.Name, Topology: topologyOf(c, parsed), KopsVersion: c.KopsVersion, Findings: []finding{}}
	v.add(specFindings(c, parsed)...)
	v.add(etcdFindings(c, parsed)...)
	v.add(completedFindings(st, c, parsed, completed)...)
	if output == "json" {
		if err := console.WriteJSON(s.Out, v); err != nil {
			return err
		}
	} else {
		v.print(s)
	}
	if len(v.Findings) > 0 {
		return console.ErrFound
	}
	return nil
}

func (v *validation) add(f ...finding) { v.Findings = append(v.Findings, f...) }

func (v *validation) print(s console.Streams) {
	fmt.Fprintf(s.Out, "%s   %s   kOps %s\n", v.Cluster, v.Topology, console.OrNotSet(v.KopsVersion))
	for _, f := range v.Findings {
		mark := "accepted by kOps"
		if f.Refused {
			mark = "refused by kOps "
		}
		fmt.Fprintf(s.Out, "  %s  %s: %s\n%20snext: %s\n", mark, f.Where, f.Why, "", f.Next)
	}
	if len(v.Findings) == 0 {
		fmt.Fprintln(s.Out, "no problems in the spec; whether nodes join is another question: muster audit cluster")
	}
}

// specFindings are faults of the spec by itself.
func specFindings(c *store.Cluster, parsed *cluster.Cluster) (all []finding) {
	r, ok, err := c.Release()
	var unknown *cluster.SpecError
	if errors.As(err, &unknown) {
		all = append(all, finding{
			Code: "kops-version", Where: path.Base(store.Layout(c.Name).KopsVersion()), Why: unknown.Msg,
			Next: "look with the kOps that wrote it, and use a muster that knows it",
		})
	}
	if !ok {
		r = cluster.Release136
	}
	for _, f := range parsed.Refusals(parsed.Topology(r), r) {
		all = append(all, finding{Code: string(f.Code), Refused: !f.KopsAccepts, Where: f.Path, Why: f.Why, Next: f.Next})
	}
	return all
}

// etcdFindings are members of etcd outside control-plane groups.
func etcdFindings(c *store.Cluster, parsed *cluster.Cluster) (all []finding) {
	var doc struct {
		Spec struct {
			EtcdClusters []struct {
				Name    string `yaml:"name"`
				Members []struct {
					Group string `yaml:"instanceGroup"`
				} `yaml:"etcdMembers"`
			} `yaml:"etcdClusters"`
		} `yaml:"spec"`
	}
	if err := spec.Decode(c.Spec.Data, &doc); err != nil {
		return []finding{{Code: "etcd", Where: "spec.etcdClusters", Why: "cannot be read: " + err.Error(), Next: "write it as kOps does"}}
	}
	for _, e := range doc.Spec.EtcdClusters {
		for _, m := range e.Members {
			has := slices.ContainsFunc(parsed.GroupsOf(cluster.RoleControlPlane), func(g cluster.Group) bool { return g.Name == m.Group })
			if !has {
				all = append(all, finding{
					Code: "etcd-member", Refused: true, Where: "spec.etcdClusters[" + e.Name + "]",
					Why:  fmt.Sprintf("a member lives in %q, which is no control-plane group", m.Group),
					Next: "put the group back, or the member elsewhere",
				})
			}
		}
	}
	return all
}

// completedFindings are differences between the spec and what kOps last built.
func completedFindings(st store.Store, c *store.Cluster, parsed *cluster.Cluster, completed store.Object) []finding {
	if len(completed.Data) == 0 && completed.Version == store.Absent {
		return nil // never updated, so there is nothing to differ from
	}
	where := path.Base(completed.Key)
	built, err := store.Draft(st, c.Name, completed, c.Groups...).Parse()
	if err != nil {
		return []finding{{Code: "completed-spec", Where: where, Why: "cannot be read: " + console.FirstError(err).Error(), Next: "let kOps update the cluster, which writes it anew"}}
	}
	r, ok, _ := c.Release()
	if !ok {
		r = cluster.Release136
	}
	if is, was := parsed.Topology(r), built.Topology(r); is != was {
		return []finding{{
			Code: "pending", Where: "spec.topology", Why: fmt.Sprintf("the spec says %s, but kOps last built %s", is, was),
			Next: "see first what the change does to the nodes: muster rehearse; then let kOps update the cluster",
		}}
	}
	return nil
}
