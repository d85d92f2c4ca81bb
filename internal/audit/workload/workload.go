// Package workload looks in a cluster's API for what an audit cannot see from
// outside: pods with their node's network that have a copy of its hosts file
// and ask for the cluster's own names, and whatever calls protokube.
//
// It reads pods, and the ConfigMaps that those with their node's network name;
// it changes nothing, and judges nothing: package audit does. What a program in
// a pod reads from elsewhere, such as a kubeconfig on the node's disk or in a
// Secret, it cannot see. Values of the environment are searched and not kept.
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
	pageSize   = "500"
	maxPage    = 64 << 20 // bytes of a page of pods
	maxConfig  = 4 << 20  // bytes of a ConfigMap
	maxConfigs = 500      // ConfigMaps that are read
	atOnce     = 8        // ConfigMaps that are read at a time
)

// API is asked for JSON at a path. kubeapi.Client is one.
type API interface {
	Get(ctx context.Context, path string, query url.Values, limit int64, answer any) error
}

// Read looks through the pods of a cluster of a name. It fails if they cannot be
// listed; a ConfigMap that cannot be read is a gap.
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
	return &audit.Workloads{Pods: scan(pods, configs, cluster), Gaps: gaps}, nil
}

// configRef names a ConfigMap.
type configRef struct{ namespace, name string }

// readConfigs reads the ConfigMaps of pods with their node's network.
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
	faults := make([]error, len(refs))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, ref := range refs {
		g.Go(func() error {
			var config struct {
				Data map[string]string `json:"data"`
			}
			faults[i] = api.Get(ctx, path.Join("api/v1/namespaces", ref.namespace, "configmaps", ref.name), nil, maxConfig, &config)
			for _, text := range config.Data {
				found[i] += text + "\n"
			}
			return nil
		})
	}
	_ = g.Wait() // no ConfigMap fails the rest
	texts = map[configRef]string{}
	for i, ref := range refs {
		if faults[i] != nil {
			gaps = append(gaps, cloud.Gap{What: "ConfigMap", Subject: ref.namespace + "/" + ref.name, Why: faults[i].Error()})
			continue
		}
		texts[ref] = found[i]
	}
	return texts, gaps
}

// scan finds the pods that matter. Pods of one owner that are alike are one.
func scan(pods []pod, configs map[configRef]string, cluster string) []audit.Workload {
	found := []audit.Workload{}
	at := map[string]int{}
	for _, p := range pods {
		w := audit.Workload{
			Namespace: p.Metadata.Namespace, Owner: p.owner(), HostNetwork: p.Spec.HostNetwork, SeesHosts: p.mountsHosts(),
			Names: p.names(cluster, configs), Protokube: p.says("protokube"),
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

// pod is what matters of a pod. Its containers are kept as they are: a name may
// stand in a command, an argument or a value of the environment.
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

// container is what is looked for in a container besides texts.
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

// containers decodes the containers. One that is no container says nothing.
func (p pod) containers() []container {
	var all []container
	for _, raw := range slices.Concat(p.Spec.Init, p.Spec.Containers) {
		var c container
		if json.Unmarshal(raw, &c) == nil {
			all = append(all, c)
		}
	}
	return all
}

// owner names what made the pod: a DaemonSet or the like, without the part of a
// ReplicaSet's name that changes with each rollout.
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

// configs lists the ConfigMaps of the pod.
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

// says reports whether a command, argument or value of a container holds a text.
func (p pod) says(text string) bool {
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

// names lists which of the cluster's names the pod asks for.
func (p pod) names(cluster string, configs map[configRef]string) (names []string) {
	for _, short := range []string{"api.internal.", "kops-controller.internal."} {
		name := short + cluster
		if p.says(name) || p.Spec.HostNetwork && slices.ContainsFunc(p.configs(), func(c string) bool {
			return strings.Contains(configs[configRef{p.Metadata.Namespace, c}], name)
		}) {
			names = append(names, name)
		}
	}
	return names
}

// mountsHosts reports whether every container sees the node's hosts file itself.
// One that does not has a copy, made when it started.
func (p pod) mountsHosts() bool {
	from := map[string]string{}
	for _, v := range p.Spec.Volumes {
		if v.HostPath != nil {
			from[v.Name] = path.Clean(v.HostPath.Path)
		}
	}
	var running []container
	for _, raw := range p.Spec.Containers {
		var c container
		if json.Unmarshal(raw, &c) == nil {
			running = append(running, c)
		}
	}
	return !slices.ContainsFunc(running, func(c container) bool {
		for _, m := range c.Mounts {
			if from[m.Name] == "/etc/hosts" && path.Clean(m.Path) == "/etc/hosts" || from[m.Name] == "/etc" && path.Clean(m.Path) == "/etc" {
				return false
			}
		}
		return true
	})
}
