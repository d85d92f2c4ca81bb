package plan

import (
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

// permissions records whether workers may discover seeds.
func (w *observer) permissions() {
	may := cloud.No
	if w.o.Cloud != cluster.AWS {
		// Elsewhere the permission comes with the node; every one that gossips has it.
		w.state.Lookup = w.state.Live.Has(Gossip)
		return
	}
	seen := false
	for _, role := range w.o.Roles {
		if slices.Contains(role.Roles, cluster.RoleNode) {
			seen = true
			may = lookup(role, w.configObjects())
		}
	}
	if !seen || may == cloud.Unknown {
		w.fork(branch{"workers may list instances and read the state store", func(s *State) { s.Lookup = true }},
			branch{"workers may not list instances or not read the state store", func(s *State) { s.Lookup = false }})
		return
	}
	w.state.Lookup = may == cloud.Yes
}

// lookup reports whether an AWS role may do what a gossiping worker needs: list
// instances, and read one of the objects.
func lookup(role cloud.Role, objects []string) cloud.Answer {
	policies, err := iam.PoliciesOf(role)
	if err != nil {
		return cloud.Unknown
	}
	lists := iam.Evaluate(policies, iam.Request{Action: "ec2:DescribeInstances", Resource: "*"})
	reads := iam.Undecided
	for _, object := range objects {
		if d := iam.Evaluate(policies, iam.Request{Action: "s3:GetObject", Resource: object}); d != iam.Undecided {
			reads = d
		}
		if reads == iam.Allowed {
			break
		}
	}
	switch {
	case lists == iam.Allowed && reads == iam.Allowed:
		return cloud.Yes
	case lists == iam.Undecided || len(role.Managed) > 0 || lists == iam.Allowed && reads == iam.Undecided:
		return cloud.Unknown
	default:
		return cloud.No
	}
}

// configObjects returns the ARNs of an object that a gossiping worker reads at boot,
// one per AWS partition; none if no template has the store's location.
func (w *observer) configObjects() (arns []string) {
	for _, g := range w.o.Groups {
		if g.Template.Boot == nil {
			continue
		}
		if base, ok := strings.CutPrefix(g.Template.Boot.ConfigBase, "s3://"); ok {
			for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
				arns = append(arns, "arn:"+partition+":s3:::"+base+"/igconfig/node/nodes/nodeupconfig.yaml")
			}
			return arns
		}
	}
	return nil
}
