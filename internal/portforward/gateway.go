package portforward

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Config says which cluster to go through.
type Config struct {
	// Kubeconfig is the file. Default: $KUBECONFIG, then ~/.kube/config.
	Kubeconfig string
	// Context is the context in it. Default: its current one.
	Context string
}

// ConfigError is a kubeconfig that cannot be used.
type ConfigError struct{ err error }

// Error implements error.
func (e *ConfigError) Error() string {
	return fmt.Sprintf("kubeconfig: %v; give a file with --kubeconfig or $KUBECONFIG, and --context", e.err)
}

// Unwrap implements error.
func (e *ConfigError) Unwrap() error { return e.err }

// Pod is a pod that has its node's network.
type Pod struct {
	Name string
	Node string
	Addr netip.Addr // of the node
	// ControlPlane says that it is one that only control-plane nodes run.
	ControlPlane bool
}

// Gateway reaches nodes of one cluster. It is safe for concurrent use.
type Gateway struct {
	config *rest.Config
	base   *url.URL
	pods   []Pod
}

const namespace = "kube-system"

// Open reads the kubeconfig and lists pods. Errors about the kubeconfig are
// *ConfigError.
func Open(ctx context.Context, cfg Config) (*Gateway, error) {
	config, err := cfg.REST()
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, &ConfigError{oneLine(err)}
	}
	g := &Gateway{config: config, base: base}
	if g.pods, err = g.list(ctx); err != nil {
		return nil, fmt.Errorf("list pods of %s at %s: %w", namespace, base.Host, err)
	}
	if len(g.pods) == 0 {
		return nil, fmt.Errorf("list pods of %s at %s: none runs with hostNetwork, so none leads to a node", namespace, base.Host)
	}
	return g, nil
}

// REST reads the kubeconfig. Errors are *ConfigError.
func (c Config) REST() (*rest.Config, error) {
	// The libraries log what they also return.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	if err != nil {
		return nil, &ConfigError{oneLine(err)}
	}
	return config, nil
}

func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// Pods returns a pod for each node that has one, control-plane nodes first,
// then by node.
func (g *Gateway) Pods() []Pod { return slices.Clone(g.pods) }

// maxList bounds the list of pods, in bytes.
const maxList = 64 << 20

// podList is what matters of a list of pods.
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

func (g *Gateway) list(ctx context.Context) ([]Pod, error) {
	client, err := rest.HTTPClientFor(g.config)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	at := g.base.JoinPath("api/v1/namespaces", namespace, "pods")
	at.RawQuery = url.Values{"fieldSelector": {"status.phase=Running"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusedBy(resp.StatusCode, body)
	}
	var list podList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the answer is no list of pods: %w", err)
	}
	return choose(list), nil
}

// refusedBy makes an error of an API server's answer.
func refusedBy(code int, body []byte) error {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &status) != nil || status.Message == "" {
		status.Message = http.StatusText(code)
	}
	if code == http.StatusForbidden || code == http.StatusUnauthorized {
		status.Message += "; it takes list on pods and create on pods/portforward in " + namespace
	}
	return fmt.Errorf("the API server answers %d: %s", code, strings.Join(strings.Fields(status.Message), " "))
}

// onControlPlane are kOps's pods that run on control-plane nodes, in the order
// in which they are taken: the first is a static pod, which no rollout moves.
var onControlPlane = []string{"kube-apiserver", "kops-controller", "dns-controller"}

// choose picks a pod a node.
func choose(list podList) []Pod {
	best := make(map[netip.Addr]Pod)
	ranks := make(map[netip.Addr]int)
	for _, p := range list.Items {
		addr, err := netip.ParseAddr(p.Status.HostIP)
		if err != nil || !p.Spec.HostNetwork || p.Status.Phase != "Running" {
			continue
		}
		rank := slices.IndexFunc(onControlPlane, func(app string) bool {
			return p.Metadata.Labels["k8s-app"] == app || strings.HasPrefix(p.Metadata.Name, app+"-")
		})
		controlPlane := rank >= 0
		if !controlPlane {
			rank = len(onControlPlane)
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
