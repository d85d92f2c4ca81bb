// Package workload reads from a cluster's API which pods depend on the nodes' hosts
// files or on protokube: pods in the host network with a copy of /etc/hosts that use
// the cluster's own names, and pods that mention protokube.
//
// It reads pods, and the ConfigMaps of those in the host network. It writes nothing
// and evaluates nothing; package audit does. It does not see what a program reads from
// elsewhere, such as a kubeconfig on the node's disk or in a Secret. Values of
// environment variables are searched but not kept.
package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
)

const (
	pageSize        = "500"
	maxPage         = 64 << 20 // bytes of a page of pods
	maxConfig       = 4 << 20  // bytes of a ConfigMap
	maxConfigs      = 500      // ConfigMaps that are read
	concurrentReads = 8        // ConfigMaps read at a time
)

// API gets JSON from the API server: path is relative to its URL, limit the most bytes
// that are read. kubeapi.Client implements it.
type API interface {
	Get(ctx context.Context, path string, query url.Values, limit int64, answer any) error
}

// Read returns the workloads of the named cluster. It fails if pods cannot be listed; a
// ConfigMap that cannot be read is a gap.
func Read(ctx context.Context, api API, cluster string) (*audit.Workloads, error) {
	var pods []pod
	query := url.Values{"limit": {pageSize}, "fieldSelector": {"status.phase=Running"}}
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []pod `json:"items"`
		}
		if err := api.Get(ctx, "api/v1/pods", query, maxPage, &page); err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
		pods = append(pods, page.Items...)
		if page.Metadata.Continue == "" {
			break
		}
		query.Set("continue", page.Metadata.Continue)
	}
	configs, gaps := readConfigs(ctx, api, pods)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &audit.Workloads{Pods: workloads(pods, configs, cluster), Gaps: gaps}, nil
}

// configRef identifies a ConfigMap.
type configRef struct{ namespace, name string }

// readConfigs reads the ConfigMaps of pods in the host network.
func readConfigs(ctx context.Context, api API, pods []pod) (texts map[configRef]string, gaps []cloud.Gap) {
	var refs []configRef
	for _, p := range pods {
		if p.Spec.HostNetwork {
			for _, name := range p.configs() {
				refs = append(refs, configRef{p.Metadata.Namespace, name})
			}
		}
	}
	slices.SortFunc(refs, func(a, b configRef) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	})
	if refs = slices.Compact(refs); len(refs) > maxConfigs {
		gaps = append(gaps, cloud.Gap{What: "ConfigMaps", Why: fmt.Sprintf("%d are mounted into pods with their node's network, of which %d were read", len(refs), maxConfigs)})
		refs = refs[:maxConfigs]
	}
	found := make([]string, len(refs))
	errs := make([]error, len(refs))
	var g errgroup.Group
	g.SetLimit(concurrentReads)
	for i, ref := range refs {
		g.Go(func() error {
			var config struct {
				Data map[string]string `json:"data"`
			}
			errs[i] = api.Get(ctx, path.Join("api/v1/namespaces", ref.namespace, "configmaps", ref.name), nil, maxConfig, &config)
			for _, text := range config.Data {
				found[i] += text + "\n"
			}
			return nil
		})
	}
	_ = g.Wait() // errors are in errs
	texts = map[configRef]string{}
	for i, ref := range refs {
		if errs[i] != nil {
			gaps = append(gaps, cloud.Gap{What: "ConfigMap", Subject: ref.namespace + "/" + ref.name, Why: errs[i].Error()})
			continue
		}
		texts[ref] = found[i]
	}
	return texts, gaps
}

// workloads returns the pods that matter, those of one owner with the same properties
// as one.
func workloads(pods []pod, configs map[configRef]string, cluster string) []audit.Workload {
	found := []audit.Workload{}
	at := map[string]int{}
	for _, p := range pods {
		w := audit.Workload{
			Namespace: p.Metadata.Namespace, Owner: p.owner(), HostNetwork: p.Spec.HostNetwork, MountsHosts: p.mountsHosts(),
			Names: p.names(cluster, configs), Protokube: p.mentions("protokube"),
		}
		if len(w.Names) == 0 && !w.Protokube {
			continue
		}
		key := fmt.Sprint(w)
		n, ok := at[key]
		if !ok {
			n = len(found)
			at[key] = n
			found = append(found, w)
		}
		found[n].Pods++
	}
	slices.SortFunc(found, func(a, b audit.Workload) int {
		return strings.Compare(a.Namespace+"/"+a.Owner, b.Namespace+"/"+b.Owner)
	})
	return found
}

// pod holds the fields of a pod that matter. Containers are decoded later, because one
// that cannot be decoded must not fail the whole page.
type pod struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		Owners    []struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		HostNetwork bool              `json:"hostNetwork"`
		Containers  []json.RawMessage `json:"containers"`
		Init        []json.RawMessage `json:"initContainers"`
		Volumes     []struct {
			Name     string `json:"name"`
			HostPath *struct {
				Path string `json:"path"`
			} `json:"hostPath"`
			ConfigMap *struct {
				Name string `json:"name"`
			} `json:"configMap"`
			Projected *struct {
				Sources []struct {
					ConfigMap *struct {
						Name string `json:"name"`
					} `json:"configMap"`
				} `json:"sources"`
			} `json:"projected"`
		} `json:"volumes"`
	} `json:"spec"`
}

// container holds the fields of a container that matter.
type container struct {
	Command []string `json:"command"`
	Args    []string `json:"args"`
	Env     []struct {
		Value string `json:"value"`
		From  struct {
			ConfigMap struct {
				Name string `json:"name"`
			} `json:"configMapKeyRef"`
		} `json:"valueFrom"`
	} `json:"env"`
	EnvFrom []struct {
		ConfigMap struct {
			Name string `json:"name"`
		} `json:"configMapRef"`
	} `json:"envFrom"`
	Mounts []struct {
		Name string `json:"name"`
		Path string `json:"mountPath"`
	} `json:"volumeMounts"`
}

// containers decodes init containers and containers, without those that cannot be
// decoded.
func (p pod) containers() []container { return decode(slices.Concat(p.Spec.Init, p.Spec.Containers)) }

func decode(containers []json.RawMessage) (all []container) {
	for _, raw := range containers {
		var c container
		if json.Unmarshal(raw, &c) == nil {
			all = append(all, c)
		}
	}
	return all
}

// owner returns kind and name of the pod's controller. Instead of a ReplicaSet, whose
// name changes with each rollout, it is the Deployment.
func (p pod) owner() string {
	if len(p.Metadata.Owners) == 0 {
		return "pod " + p.Metadata.Name
	}
	o := p.Metadata.Owners[0]
	switch o.Kind {
	case "ReplicaSet":
		if i := strings.LastIndexByte(o.Name, '-'); i > 0 {
			return "Deployment " + o.Name[:i]
		}
	case "Node": // a static pod's name ends with its node's
		return "static pod " + strings.TrimSuffix(p.Metadata.Name, "-"+o.Name)
	}
	return o.Kind + " " + o.Name
}

// configs returns the names of the pod's ConfigMaps, sorted, without kube-root-ca.crt.
func (p pod) configs() (names []string) {
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap != nil {
			names = append(names, v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					names = append(names, s.ConfigMap.Name)
				}
			}
		}
	}
	for _, c := range p.containers() {
		for _, e := range c.Env {
			names = append(names, e.From.ConfigMap.Name)
		}
		for _, e := range c.EnvFrom {
			names = append(names, e.ConfigMap.Name)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" || n == "kube-root-ca.crt" })
}

// mentions reports whether a command, argument or environment variable contains text.
func (p pod) mentions(text string) bool {
	return slices.ContainsFunc(p.containers(), func(c container) bool {
		holds := func(s string) bool { return strings.Contains(s, text) }
		if slices.ContainsFunc(c.Command, holds) || slices.ContainsFunc(c.Args, holds) {
			return true
		}
		for _, e := range c.Env {
			if holds(e.Value) {
				return true
			}
		}
		return false
	})
}

// names returns the names of the cluster that the pod's configuration contains.
func (p pod) names(cluster string, configs map[configRef]string) (names []string) {
	for _, short := range []string{"api.internal.", "kops-controller.internal."} {
		name := short + cluster
		if p.mentions(name) || p.Spec.HostNetwork && slices.ContainsFunc(p.configs(), func(c string) bool {
			return strings.Contains(configs[configRef{p.Metadata.Namespace, c}], name)
		}) {
			names = append(names, name)
		}
	}
	return names
}

// mountsHosts reports whether every container, init containers aside, mounts the
// node's /etc/hosts. Any other has a copy from when it started.
func (p pod) mountsHosts() bool {
	from := map[string]string{}
	for _, v := range p.Spec.Volumes {
		if v.HostPath != nil {
			from[v.Name] = path.Clean(v.HostPath.Path)
		}
	}
	return !slices.ContainsFunc(decode(p.Spec.Containers), func(c container) bool {
		for _, m := range c.Mounts {
			if from[m.Name] == "/etc/hosts" && path.Clean(m.Path) == "/etc/hosts" || from[m.Name] == "/etc" && path.Clean(m.Path) == "/etc" {
				return false
			}
		}
		return true
	})
}
