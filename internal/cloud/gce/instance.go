package gce

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// The metadata of kOps and of managed instance groups.
const (
	metaCluster  = "cluster-name"
	metaGroup    = "kops-k8s-io-instance-group-name"
	metaTemplate = "instance-template" // a link, set by the instance group
	metaManager  = "created-by"        // a link, set by the instance group
)

// maxTag is the maximum length of a network tag.
const maxTag = 63

type metadata struct {
	Items []struct{ Key, Value string }
}

func (m metadata) get(keys ...string) string {
	for _, k := range keys {
		for _, i := range m.Items {
			if i.Key == k {
				return i.Value
			}
		}
	}
	return ""
}

type tags struct{ Items []string }

// role returns the role in network tags, which are the cluster's name with hyphens, truncated if too long, and the role.
func (t tags) role(name string) cluster.Role {
	dashed := strings.ReplaceAll(name, ".", "-")
	for suffix, role := range map[string]cluster.Role{
		"-k8s-io-role-control-plane": cluster.RoleControlPlane,
		"-k8s-io-role-master":        cluster.RoleControlPlane,
		"-k8s-io-role-node":          cluster.RoleNode,
		"-k8s-io-role-api-server":    cluster.RoleAPIServer,
		"-k8s-io-role-bastion":       cluster.RoleBastion,
	} {
		for _, tag := range t.Items {
			prefix, ok := strings.CutSuffix(tag, suffix)
			if !ok {
				continue
			}
			if prefix == dashed || truncated(dashed, prefix, maxTag-len(suffix)) {
				return role
			}
		}
	}
	return ""
}

// truncated reports whether got is text as kOps truncates it to limit: its beginning, a hyphen and six characters of a
// hash.
func truncated(text, got string, limit int) bool {
	return len(text) > limit && len(got) == limit && limit > 7 && got[limit-7] == '-' && strings.HasPrefix(text, got[:limit-7])
}

type serviceAccount struct {
	Email string
}

type networkInterface struct {
	Network   string
	NetworkIP string
}

type instance struct {
	ID                string
	Name              string
	Zone              string
	Status            string
	CreationTimestamp time.Time
	Metadata          metadata
	Tags              tags
	NetworkInterfaces []networkInterface
}

func (i instance) role(name string) cluster.Role { return i.Tags.role(name) }

func (i instance) alive() bool {
	return slices.Contains([]string{"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"}, i.Status)
}

func (i instance) instance() cloud.Instance {
	out := cloud.Instance{
		ID: i.ID, Name: i.Name, Zone: lastSegment(i.Zone), State: strings.ToLower(i.Status), Launched: i.CreationTimestamp,
		Version: lastSegment(i.Metadata.get(metaTemplate)), Generation: cloud.GenerationUnknown,
	}
	if len(i.NetworkInterfaces) > 0 {
		out.Addr = survey.Addr(i.NetworkInterfaces[0].NetworkIP)
	}
	return out
}

// instances lists the cluster's instances in all zones. The API cannot filter by metadata, so all of the project's are read.
func (s *session) instances(ctx context.Context) ([]instance, error) {
	all, err := list[instance](ctx, s, "list instances of "+s.config.Cluster, "aggregated/instances", "instances")
	return slices.DeleteFunc(all, func(i instance) bool { return i.Metadata.get(metaCluster) != s.config.Cluster }), err
}

type manager struct {
	Name             string
	SelfLink         string
	Zone             string
	Region           string
	InstanceTemplate string
	TargetSize       int
}

func (s *session) managers(ctx context.Context) ([]manager, error) {
	return list[manager](ctx, s, "list managed instance groups", "aggregated/instanceGroupManagers", "instanceGroupManagers")
}

type template struct {
	Name              string
	CreationTimestamp time.Time
	Properties        struct {
		Metadata        metadata
		Tags            tags
		ServiceAccounts []serviceAccount
	}
}

func (t template) group() string { return t.Properties.Metadata.get(metaGroup) }

// userData returns the boot script, whichever key the image uses.
func (t template) userData() []byte {
	if text := t.Properties.Metadata.get("startup-script", "user-data"); text != "" {
		return []byte(text)
	}
	return nil
}

func (s *session) templates(ctx context.Context) ([]template, error) {
	all, err := list[template](ctx, s, "list instance templates of "+s.config.Cluster, "global/instanceTemplates", "")
	return slices.DeleteFunc(all, func(t template) bool { return t.Properties.Metadata.get(metaCluster) != s.config.Cluster }), err
}

// assemble returns kOps's groups. A group has one manager per zone; templates tell which. Without managers or templates the
// groups are those of the instances' metadata.
func assemble(s *survey.Survey, name string, list []instance, managers []manager, templates []template) []cloud.Group {
	byTemplate := map[string]template{}
	for _, t := range templates {
		byTemplate[t.Name] = t
	}
	groups := map[string]*group{}
	of := func(g string, role cluster.Role) *group {
		if groups[g] == nil {
			groups[g] = &group{Group: cloud.Group{Name: g, Role: role, Instances: []cloud.Instance{}}}
		}
		groups[g].Role = cmp.Or(groups[g].Role, role)
		return groups[g]
	}
	current := map[string]string{} // template names by managerKey
	for _, m := range managers {
		t, ok := byTemplate[lastSegment(m.InstanceTemplate)]
		if !ok || t.group() == "" {
			continue // another cluster's
		}
		current[managerKey(m.SelfLink)] = t.Name
		of(t.group(), t.Properties.Tags.role(name)).addManager(m, t.Name)
	}
	for _, i := range list {
		if i.Metadata.get(metaGroup) == "" {
			s.Gap(survey.WhatGroups, i.Name, "the instance's metadata names the cluster and no group")
			continue
		}
		g := of(i.Metadata.get(metaGroup), i.role(name))
		in := i.instance()
		createdBy := i.Metadata.get(metaManager)
		in.Detached = createdBy == ""
		if now := current[managerKey(createdBy)]; now != "" && in.Version != "" {
			in.Generation = cloud.GenerationOld
			if in.Version == now {
				in.Generation = cloud.GenerationNew
			}
		}
		if t, ok := byTemplate[in.Version]; ok && in.Generation != cloud.GenerationNew {
			in.Boot = boot(t)
		}
		g.Instances = append(g.Instances, in)
	}
	out := make([]cloud.Group, 0, len(groups))
	for _, g := range groups {
		out = append(out, g.finish(s, byTemplate, templates))
	}
	return out
}

// managerKey identifies a manager by its zone or region and name, since links differ in host and project number.
func managerKey(link string) string {
	parts := strings.Split(link, "/")
	if len(parts) < 4 {
		return ""
	}
	return strings.Join(parts[len(parts)-4:], "/")
}
