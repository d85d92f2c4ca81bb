package portforward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/muster-dev/muster/internal/kubeapi"
)

// Pod is a pod with hostNetwork.
type Pod struct {
	Name string
	Node string
	Addr netip.Addr // of the node
	// ControlPlane is true for pods that only control-plane nodes run.
	ControlPlane bool
}

// Gateway connects to nodes of one cluster. It is safe for concurrent use.
type Gateway struct {
	config *rest.Config
	base   *url.URL
	pods   []Pod
}

const namespace = "kube-system"

// Open reads the kubeconfig and lists pods. Errors about the kubeconfig are
// [*kubeapi.ConfigError].
func Open(ctx context.Context, cfg kubeapi.Config) (*Gateway, error) {
	client, err := kubeapi.Open(cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	g := &Gateway{config: client.Rest, base: client.Base}
	if g.pods, err = list(ctx, client); err != nil {
		return nil, fmt.Errorf("list pods of %s at %s: %w", namespace, g.base.Host, err)
	}
	if len(g.pods) == 0 {
		return nil, fmt.Errorf("list pods of %s at %s: none runs with hostNetwork, so none leads to a node", namespace, g.base.Host)
	}
	return g, nil
}

// Pods returns one pod per node, control-plane nodes first, then by node name.
func (g *Gateway) Pods() []Pod { return slices.Clone(g.pods) }

// maxList bounds the list of pods, in bytes.
const maxList = 64 << 20

// podList is the fields of a PodList that are used.
type podList struct {
	Items []struct {
		Metadata struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			HostNetwork bool   `json:"hostNetwork"`
			NodeName    string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			Phase  string `json:"phase"`
			HostIP string `json:"hostIP"`
		} `json:"status"`
	} `json:"items"`
}

func list(ctx context.Context, client *kubeapi.Client) ([]Pod, error) {
	var all podList
	err := client.Get(ctx, "api/v1/namespaces/"+namespace+"/pods", url.Values{"fieldSelector": {"status.phase=Running"}}, maxList, &all)
	var refused *kubeapi.StatusError
	switch {
	case errors.As(err, &refused) && refused.Denied():
		return nil, fmt.Errorf("%w; it takes list on pods and create on pods/portforward in %s", err, namespace)
	case err != nil:
		return nil, err
	}
	return onePodPerNode(all), nil
}

// controlPlaneApps are kOps's apps that run on control-plane nodes only, in order of preference: the first is a static
// pod, which no rollout moves.
var controlPlaneApps = []string{"kube-apiserver", "kops-controller", "dns-controller"}

// onePodPerNode selects the preferred pod of each node.
func onePodPerNode(list podList) []Pod {
	best := make(map[netip.Addr]Pod)
	ranks := make(map[netip.Addr]int)
	for _, p := range list.Items {
		addr, err := netip.ParseAddr(p.Status.HostIP)
		if err != nil || !p.Spec.HostNetwork || p.Status.Phase != "Running" {
			continue
		}
		rank := slices.IndexFunc(controlPlaneApps, func(app string) bool {
			return p.Metadata.Labels["k8s-app"] == app || strings.HasPrefix(p.Metadata.Name, app+"-")
		})
		controlPlane := rank >= 0
		if !controlPlane {
			rank = len(controlPlaneApps)
		}
		pod := Pod{Name: p.Metadata.Name, Node: p.Spec.NodeName, Addr: addr.Unmap(), ControlPlane: controlPlane}
		old, known := best[pod.Addr]
		if !known || rank < ranks[pod.Addr] || rank == ranks[pod.Addr] && pod.Name < old.Name {
			best[pod.Addr], ranks[pod.Addr] = pod, rank
		}
	}
	pods := make([]Pod, 0, len(best))
	for _, p := range best {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b Pod) int {
		if a.ControlPlane != b.ControlPlane {
			if a.ControlPlane {
				return -1
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.Node, b.Node), a.Addr.Compare(b.Addr))
	})
	return pods
}
