package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, *metav1.Status)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			body, failure := f(r)
			if s.broken {
				failure = status(http.StatusInternalServerError, "InternalError", "the API server is broken")
			}
			retryAfter := s.retryAfter
			s.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			if failure != nil {
				if failure.Code == http.StatusTooManyRequests && retryAfter > 0 {
					w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
				}
				w.WriteHeader(int(failure.Code))
				body = failure
			}
			// The client may have disconnected.
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	s.discovery(handle)
	s.nodeRoutes(handle)
	s.podRoutes(handle)
	s.deploymentRoutes(handle)
	return mux
}

func (s *Server) deploymentRoutes(handle handleFunc) {
	named := func(name string) any {
		return map[string]any{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": map[string]any{"name": name}}
	}
	handle("POST /apis/apps/v1/namespaces/{ns}/deployments", func(r *http.Request) (any, *metav1.Status) {
		var d metav1.PartialObjectMetadata
		if failure := decode(r.Body, &d); failure != nil {
			return nil, failure
		}
		if _, has := s.restarts[d.Name]; has {
			return nil, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "there is one")
		}
		s.restarts[d.Name] = 0
		return named(d.Name), nil
	})
	handle("PATCH /apis/apps/v1/namespaces/{ns}/deployments/{name}", func(r *http.Request) (any, *metav1.Status) {
		name := r.PathValue("name")
		if _, has := s.restarts[name]; !has {
			return nil, notFound("deployments", name)
		}
		s.restarts[name]++
		return named(name), nil
	})
	handle("DELETE /apis/apps/v1/namespaces/{ns}/deployments/{name}", func(r *http.Request) (any, *metav1.Status) {
		name := r.PathValue("name")
		if _, has := s.restarts[name]; !has {
			return nil, notFound("deployments", name)
		}
		delete(s.restarts, name)
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	})
}

type handleFunc func(pattern string, f func(r *http.Request) (any, *metav1.Status))

func (s *Server) discovery(handle handleFunc) {
	handle("GET /readyz/etcd", func(*http.Request) (any, *metav1.Status) { return "ok", nil })
	handle("GET /api", func(*http.Request) (any, *metav1.Status) { return metav1.APIVersions{Versions: []string{"v1"}}, nil })
	handle("GET /apis", func(*http.Request) (any, *metav1.Status) {
		v := metav1.GroupVersionForDiscovery{GroupVersion: "policy/v1", Version: "v1"}
		return metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "policy", Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}}}, nil
	})
	handle("GET /api/v1", func(*http.Request) (any, *metav1.Status) {
		return metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Namespaced: true, Kind: "Pod"}, {Name: "pods/eviction", Namespaced: true, Group: "policy", Version: "v1", Kind: "Eviction"},
		}}, nil
	})
	handle("GET /apis/policy/v1/namespaces/{ns}/poddisruptionbudgets", func(r *http.Request) (any, *metav1.Status) {
		list := policyv1.PodDisruptionBudgetList{}
		for _, b := range s.budgets {
			if b.Namespace == r.PathValue("ns") {
				list.Items = append(list.Items, b)
			}
		}
		return list, nil
	})
}

func (s *Server) nodeRoutes(handle handleFunc) {
	handle("GET /api/v1/nodes", func(*http.Request) (any, *metav1.Status) {
		list := corev1.NodeList{}
		for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
			list.Items = append(list.Items, *s.nodes[name])
		}
		return list, nil
	})
	handle("GET /api/v1/nodes/{name}", func(r *http.Request) (any, *metav1.Status) {
		if n := s.nodes[r.PathValue("name")]; n != nil {
			return n, nil
		}
		return nil, notFound("nodes", r.PathValue("name"))
	})
	handle("POST /api/v1/nodes", func(r *http.Request) (any, *metav1.Status) {
		n := &corev1.Node{}
		if failure := decode(r.Body, n); failure != nil {
			return nil, failure
		}
		if s.nodes[n.Name] != nil {
			return nil, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "there is one")
		}
		s.version++
		n.ResourceVersion = strconv.Itoa(s.version)
		s.nodes[n.Name] = n
		return n, nil
	})
	handle("DELETE /api/v1/nodes/{name}", func(r *http.Request) (any, *metav1.Status) {
		name := r.PathValue("name")
		if s.nodes[name] == nil {
			return nil, notFound("nodes", name)
		}
		delete(s.nodes, name)
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	})
	patch := func(r *http.Request) (any, *metav1.Status) {
		n := s.nodes[r.PathValue("name")]
		if n == nil {
			return nil, notFound("nodes", r.PathValue("name"))
		}
		patched, failure := applyPatch(n, r.Body)
		if failure != nil {
			return nil, failure
		}
		if patched.ResourceVersion != n.ResourceVersion {
			return nil, status(http.StatusConflict, metav1.StatusReasonConflict, "the node was changed")
		}
		s.version++
		patched.ResourceVersion = strconv.Itoa(s.version)
		s.nodes[n.Name] = patched
		return patched, nil
	}
	handle("PATCH /api/v1/nodes/{name}", patch)
	handle("PATCH /api/v1/nodes/{name}/status", patch)
}

func decode(body io.Reader, target any) *metav1.Status {
	if err := json.NewDecoder(body).Decode(target); err != nil {
		return status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	return nil
}

// applyPatch applies a JSON merge patch (RFC 7386) to an object.
func applyPatch[T any](object *T, body io.Reader) (*T, *metav1.Status) {
	var patch, tree any
	if failure := decode(body, &patch); failure != nil {
		return nil, failure
	}
	before, _ := json.Marshal(object) // cannot fail: it was decoded from JSON
	_ = json.Unmarshal(before, &tree)
	after, _ := json.Marshal(merge(tree, patch))
	out := new(T)
	if err := json.Unmarshal(after, out); err != nil {
		return nil, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	return out, nil
}

func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	m, ok := target.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = merge(m[k], v)
		}
	}
	return m
}

func (s *Server) podRoutes(handle handleFunc) {
	list := func(r *http.Request, ns string) (any, *metav1.Status) {
		selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
		if err != nil {
			return nil, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		node, byNode := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
		out := corev1.PodList{}
		for _, k := range slices.Sorted(maps.Keys(s.pods)) {
			p := s.pods[k]
			if (ns == "" || p.Namespace == ns) && (!byNode || p.Spec.NodeName == node) && selector.Matches(labels.Set(p.Labels)) {
				out.Items = append(out.Items, *p)
			}
		}
		return out, nil
	}
	handle("GET /api/v1/pods", func(r *http.Request) (any, *metav1.Status) { return list(r, "") })
	handle("GET /api/v1/namespaces/{ns}/pods", func(r *http.Request) (any, *metav1.Status) { return list(r, r.PathValue("ns")) })
	handle("GET /api/v1/namespaces/{ns}/pods/{name}", func(r *http.Request) (any, *metav1.Status) {
		if p := s.pods[r.PathValue("ns")+"/"+r.PathValue("name")]; p != nil {
			return p, nil
		}
		return nil, notFound("pods", r.PathValue("name"))
	})
	handle("POST /api/v1/namespaces/{ns}/pods", func(r *http.Request) (any, *metav1.Status) {
		p := &corev1.Pod{}
		if failure := decode(r.Body, p); failure != nil {
			return nil, failure
		}
		p.Namespace = r.PathValue("ns")
		key := p.Namespace + "/" + p.Name
		if s.pods[key] != nil {
			return nil, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "there is one")
		}
		s.pods[key] = p
		return p, nil
	})
	handle("PATCH /api/v1/namespaces/{ns}/pods/{name}/status", func(r *http.Request) (any, *metav1.Status) {
		key := r.PathValue("ns") + "/" + r.PathValue("name")
		if s.pods[key] == nil {
			return nil, notFound("pods", r.PathValue("name"))
		}
		patched, failure := applyPatch(s.pods[key], r.Body)
		if failure == nil {
			s.pods[key] = patched
		}
		return patched, failure
	})
	handle("DELETE /api/v1/namespaces/{ns}/pods/{name}", func(r *http.Request) (any, *metav1.Status) {
		key := r.PathValue("ns") + "/" + r.PathValue("name")
		if s.pods[key] == nil {
			return nil, notFound("pods", r.PathValue("name"))
		}
		delete(s.pods, key)
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	})
	handle("POST /api/v1/namespaces/{ns}/pods/{name}/eviction", func(r *http.Request) (any, *metav1.Status) {
		key := r.PathValue("ns") + "/" + r.PathValue("name")
		p := s.pods[key]
		if p == nil {
			return nil, notFound("pods", r.PathValue("name"))
		}
		for n := range s.budgets {
			b := &s.budgets[n]
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || b.Namespace != p.Namespace || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			if b.Status.DisruptionsAllowed == 0 {
				return nil, status(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.")
			}
			b.Status.DisruptionsAllowed--
		}
		s.evicted = append(s.evicted, key)
		delete(s.pods, key)
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	})
}

func status(code int32, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}
}

func notFound(resource, name string) *metav1.Status {
	return status(http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", resource, name))
}
