package bykops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/report"
)

// member is an instance of a group with its node.
type member struct {
	cloud.Instance
	node *corev1.Node // nil if it has not registered
}

// ready reports whether the node is Ready and schedulable.
func (m member) ready() bool { return m.node != nil && isReady(m.node) && !m.node.Spec.Unschedulable }

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// isOutdated reports whether an instance is not certainly of the new generation.
func isOutdated(i cloud.Instance) bool { return i.Generation != cloud.GenerationNew }

// outdated returns the instances of a group that are to be replaced, those already
// detached by an earlier run first.
func outdated(g cloud.Group) (all []cloud.Instance) {
	for _, i := range g.Living() {
		if isOutdated(i) {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b cloud.Instance) int {
		switch {
		case a.Detached == b.Detached:
			return strings.Compare(a.ID, b.ID)
		case a.Detached:
			return -1
		}
		return 1
	})
	return all
}

// group returns an observed group by name.
func (w world) group(name string) (cloud.Group, bool) {
	for _, g := range w.Cloud.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return cloud.Group{}, false
}

// errNoKube reports that [Config.Kube] is needed.
var errNoKube = errors.New("the cluster's API was not asked: no kubeconfig leads to it")

// members returns a group's living instances with their nodes. Nodes are matched by
// provider ID, or by name, which kOps sets to the instance's.
func (e *Executor) members(ctx context.Context, g cloud.Group) ([]member, error) {
	if e.Kube == nil {
		return nil, errNoKube
	}
	nodes, err := e.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var all []member
	for _, i := range g.Living() {
		m := member{Instance: i}
		for n := range nodes.Items {
			node := &nodes.Items[n]
			if strings.HasSuffix(node.Spec.ProviderID, "/"+i.ID) || node.Name == i.ID || i.Name != "" && node.Name == i.Name {
				m.node = node
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// joined judges whether the new instances of a group work: there are at least want,
// each is Ready, and their template does not boot through gossip, unless a rollback
// restores that. For the control plane, which reads the state store either way, the
// path is not judged.
func (e *Executor) joined(ctx context.Context, w world, group string, want int, back bool) (report.Verdict, string) {
	g, ok := w.group(group)
	if !ok {
		return report.Unknown, "the group was not observed"
	}
	if g.Role == cluster.RoleNode {
		switch path := bootconfig.Path(g.Template.Boot); {
		case path == cloud.BootAddresses, back && path == cloud.BootGossip:
		case path == cloud.BootUnknown:
			return report.Unknown, "what its template boots with could not be read"
		default:
			return report.Fail, fmt.Sprintf("its template leads through the old path: %s", path)
		}
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return report.Unknown, err.Error()
	}
	var in []cloud.Instance
	var missing []string
	for _, m := range members {
		switch {
		case isOutdated(m.Instance):
		case m.ready():
			in = append(in, m.Instance)
		case m.node == nil:
			missing = append(missing, m.ID+" has not registered")
		default:
			missing = append(missing, m.ID+" is not Ready")
		}
	}
	if len(missing) == 0 && len(in) >= want {
		return report.Pass, whoJoined(g, in)
	}
	if len(missing) == 0 {
		missing = append(missing, fmt.Sprintf("%d of %d new instances are there", len(in), want))
	}
	return report.Fail, strings.Join(missing, "; ")
}

// whoJoined names the instances made from the current template version and, apart
// from them, those of another version with the same contents, which stay.
func whoJoined(g cloud.Group, in []cloud.Instance) string {
	var of, stay []string
	for _, i := range in {
		if i.Version == "" || i.Version == g.Template.Version {
			of = append(of, i.ID)
		} else {
			stay = append(stay, unchanged(g, i))
		}
	}
	var says []string
	if len(of) > 0 {
		says = append(says, fmt.Sprintf("%s joined by %s, of template version %s", strings.Join(of, " "), bootconfig.Path(g.Template.Boot), g.Template.Version))
	}
	return strings.Join(append(says, stay...), "; ")
}

// unjoined returns the new instances of a group that did not join.
func unjoined(members []member) (ids []string) {
	for _, m := range members {
		if !isOutdated(m.Instance) && !m.ready() {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// evidence gathers, before new instances are removed, why they did not join: the
// first broken link in the chain from boot to node, their boot configuration, and the
// end of their consoles.
func (e *Executor) evidence(ctx context.Context, w world, g cloud.Group, ids []string) string {
	var b strings.Builder
	in := w.Audit()
	in.Now = time.Now()
	for _, judged := range audit.Run(in, nil).Groups {
		if judged.Name != g.Name {
			continue
		}
		fmt.Fprintf(&b, "a new node of %s, from what is seen: %s", g.Name, judged.Joinable)
		if judged.BrokenLink != "" {
			fmt.Fprintf(&b, "; first broken link: %s: %s", judged.BrokenLink, judged.Link(judged.BrokenLink).Detail)
		}
		b.WriteByte('\n')
	}
	if boot := g.Template.Boot; boot != nil {
		fmt.Fprintf(&b, "boots with: %s, servers %v, API server addresses %v, configuration hash %s\n", bootconfig.Path(boot), boot.Servers, boot.APIServerIPs, boot.ConfigHash)
	}
	for _, id := range ids {
		text, err := e.Machines.Console(ctx, id)
		switch {
		case err != nil:
			fmt.Fprintf(&b, "console of %s: %v\n", id, err)
		case text == "":
			fmt.Fprintf(&b, "console of %s: nothing yet\n", id)
		default:
			fmt.Fprintf(&b, "console of %s:\n", id)
			out := &lineWriter{say: func(line string) { b.WriteString("  " + line + "\n") }}
			_, _ = out.Write([]byte(text)) // never fails
			out.flush()
		}
	}
	return b.String()
}
