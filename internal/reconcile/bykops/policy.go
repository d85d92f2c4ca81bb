package bykops

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
)

// policyName is the name of the bridge policy in the workers' role.
func (e *Executor) policyName() string { return "muster-bridge." + e.Problem.Cluster }

// workersRole returns the cloud's name of the workers' role.
func (w world) workersRole() (string, error) {
	for _, r := range w.Cloud.Roles {
		if slices.Contains(r.Roles, cluster.RoleNode) {
			return r.Name, nil
		}
	}
	return "", errors.New("the workers' role was not observed")
}

// policy returns the permissions that an old worker needs to boot and the new role
// lacks: what gossip needs beyond hybrid.
func (e *Executor) policy(w world) (string, error) {
	state := ""
	for _, g := range w.Cloud.Groups {
		boots := []*cloud.BootConfig{g.Template.Boot}
		for _, i := range g.Instances {
			boots = append(boots, i.Boot)
		}
		for _, b := range boots {
			if b != nil && strings.HasPrefix(b.ConfigBase, "s3://") {
				state = strings.TrimPrefix(b.ConfigBase, "s3://")
			}
		}
	}
	if state == "" {
		return "", errors.New("no template says where the state store is")
	}
	partition := "aws"
	for _, r := range w.Cloud.Roles {
		if held, err := iam.PoliciesOf(r); err == nil && slices.Contains(r.Roles, cluster.RoleNode) {
			partition = iam.PartitionOf(held)
		}
	}
	terms := iam.Terms{Role: cluster.RoleNode, Topology: cluster.Gossip, Release: cluster.Release136, Cluster: e.Problem.Cluster, Partition: partition, State: state}
	without := terms
	without.Topology = cluster.Hybrid
	kept := iam.Needs(without)
	needs := slices.DeleteFunc(iam.Needs(terms), func(n iam.Need) bool {
		return slices.ContainsFunc(kept, func(k iam.Need) bool { return k.Name == n.Name })
	})
	document, err := iam.JSON(iam.PolicyOf(needs))
	return string(document), err
}

func (e *Executor) addPolicy(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if w.bridged && !w.begun {
		return nil, nil
	}
	if e.Infrastructure == nil {
		return nil, errors.New("only AWS keeps permissions at a role that can be bridged")
	}
	role, err := w.workersRole()
	if err != nil {
		return nil, err
	}
	document, err := e.policy(w)
	if err != nil {
		return nil, err
	}
	return []reconcile.Action{{
		ID: "policy", What: s.Title,
		Do: func(ctx context.Context, say func(string)) error {
			say("role " + role + ", policy " + e.policyName() + ", by which it may:")
			for _, line := range iam.Words(cloud.Role{Kind: cloud.KindPolicy, Policies: map[string]string{e.policyName(): document}}) {
				say("  " + line)
			}
			return e.Infrastructure.PutPolicy(ctx, role, e.policyName(), document)
		},
		Gates: []reconcile.Gate{e.boolGate("the policy is there", time.Minute, func(w world) (bool, string) { return w.bridged, e.policyName() + " in " + role })},
		Abort: func(ctx context.Context) (string, error) {
			return "", e.Infrastructure.DeletePolicy(ctx, role, e.policyName())
		},
	}}, nil
}

func (e *Executor) removePolicy(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if !w.bridged && !w.begun {
		return nil, nil
	}
	role, err := w.workersRole()
	if err != nil {
		return nil, err
	}
	return []reconcile.Action{{
		ID: "policy", What: s.Title,
		Do: func(ctx context.Context, say func(string)) error {
			say("role " + role + ": taking " + e.policyName() + " out")
			return e.Infrastructure.DeletePolicy(ctx, role, e.policyName())
		},
		Gates: []reconcile.Gate{e.boolGate("the policy is gone", time.Minute, func(w world) (bool, string) { return !w.bridged, e.policyName() + " in " + role })},
	}}, nil
}
