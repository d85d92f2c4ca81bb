package auditcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cloud"
	cloudopen "github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// roleComparison is what a role of a cluster holds and needs.
type roleComparison struct {
	Role  string         `json:"role"`
	Nodes []cluster.Role `json:"nodes"` // that have it
	iam.Comparison
}

// auditRoles compares what the roles of a cluster hold with what its nodes need.
func auditRoles(ctx context.Context, s console.Streams, o termsOptions) error {
	in, unseen, err := gatherAudit(ctx, s, auditOptions{Flags: statestore.Flags{Name: o.name, State: o.state}, version: o.release})
	if err != nil || unseen != nil {
		return errors.Join(err, unseen)
	}
	terms, err := o.clusterTerms(in)
	if err != nil {
		return err
	}
	all, dirty := []roleComparison{}, false
	for _, role := range in.Cloud.Roles {
		t := terms
		switch {
		case slices.Contains(role.Roles, cluster.RoleControlPlane):
			t.Role = cluster.RoleControlPlane
		case !slices.Contains(role.Roles, cluster.RoleNode):
			continue
		}
		if held, err := iam.PoliciesOf(role); err == nil {
			t.Partition = cmp.Or(t.Partition, iam.PartitionOf(held))
		}
		c, err := iam.CompareRole(in.Spec.Cloud, role, t)
		if err != nil {
			return err
		}
		all, dirty = append(all, roleComparison{role.Name, role.Roles, c}), dirty || !c.Clean()
	}
	if err := printRoles(s, all, in.Cloud.Gaps, o.output); err != nil {
		return err
	}
	if dirty {
		return console.ErrFound
	}
	return nil
}

// clusterTerms returns the terms of a cluster, where flags do not override them.
func (o termsOptions) clusterTerms(in audit.Input) (t iam.Terms, err error) {
	release, err := cluster.ParseRelease(in.Version)
	if err != nil {
		return t, console.Usagef("the state store does not say a kOps version that muster knows; give --kops-version: %w", err)
	}
	o.release = release.String()
	o.topology = cmp.Or(o.topology, string(in.Spec.Topology(release)))
	o.state, o.backups = "", "" // what nodes boot with decides
	o.registry = o.registry || in.Manifest.Registry
	o.accounts = o.accounts || in.Manifest.ServiceAccounts
	if in.Spec.Cloud == cluster.AWS {
		o.region = cmp.Or(o.region, cloudopen.Region(in.Spec))
	}
	if t, err = o.terms(); err != nil {
		return t, err
	}
	for _, g := range in.Cloud.Groups {
		if b := g.Template.Boot; b != nil && strings.HasPrefix(b.ConfigBase, "s3://") {
			t.State = strings.TrimPrefix(strings.TrimRight(b.ConfigBase, "/"), "s3://")
		}
	}
	return t, nil
}

func printRoles(s console.Streams, all []roleComparison, gaps []cloud.Gap, output string) error {
	if output == "json" {
		return console.WriteJSONUnescaped(s.Out, all)
	}
	for _, r := range all {
		if err := comparisonTable(s, r.Role, r.Comparison); err != nil {
			return err
		}
		fmt.Fprintln(s.Out)
	}
	for _, g := range gaps {
		if g.What == "permissions" {
			fmt.Fprintln(s.Out, "not seen: "+g.String())
		}
	}
	if len(all) == 0 {
		return errors.New("no role of the cluster's nodes could be seen")
	}
	return nil
}
