// Package kubetest is an API server for tests: nodes, pods with evictions,
// PodDisruptionBudgets and what surrounds them, in memory and over HTTP, spoken
// to by the real client. It is for tests only, and knows no more than what tests
// of this module ask; where the behaviour of Kubernetes itself is in question,
// test/cluster runs the real one.
package kubetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Server is a cluster's API. It is safe for concurrent use, and a
// [http.RoundTripper] that answers without any network.
type Server struct {
	URL string // empty for one that does not listen

	handler http.Handler

	mu       sync.Mutex // guards what follows
	version  int
	nodes    map[string]*corev1.Node
	pods     map[string]*corev1.Pod // by namespace/name
	budgets  []policyv1.PodDisruptionBudget
	deployed map[string]int // restarts of deployments, by name
	evicted  []string
	broken   bool
	after    int // seconds in Retry-After of a refused eviction
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New()
	h := httptest.NewServer(s.handler)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// New returns a server that does not listen.
func New() *Server {
	s := &Server{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, deployed: map[string]int{}}
	s.handler = s.routes()
	return s
}

// RoundTrip implements [http.RoundTripper].
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// Client returns the real client of the server.
func (s *Server) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	var by http.RoundTripper
	if s.URL == "" {
		by = s
	}
	return ClientBy(t, s.URL, by)
}

// ClientBy returns the real client of the server at url, whose requests go by a
// transport; nil is that of [http].
func ClientBy(t testing.TB, url string, by http.RoundTripper) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{
		Host: cmp.Or(url, "http://api.example.net"), Transport: by, QPS: -1, Timeout: 30 * time.Second,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// PutNode adds a node, or takes the place of one.
func (s *Server) PutNode(n corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	n.ResourceVersion = strconv.Itoa(s.version)
	s.nodes[n.Name] = &n
}

// Node returns a node; nil if there is none of that name.
func (s *Server) Node(name string) *corev1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[name]; n != nil {
		return n.DeepCopy()
	}
	return nil
}

// Nodes returns the names of all nodes, sorted.
func (s *Server) Nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.nodes))
}

// RemoveNode removes a node and its pods.
func (s *Server) RemoveNode(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
	maps.DeleteFunc(s.pods, func(_ string, p *corev1.Pod) bool { return p.Spec.NodeName == name })
}

// PutPod adds a pod, or takes the place of one.
func (s *Server) PutPod(p corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[p.Namespace+"/"+p.Name] = &p
}

// Pods returns the pods whose name begins with prefix.
func (s *Server) Pods(prefix string) (all []corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.pods)) {
		if strings.HasPrefix(s.pods[k].Name, prefix) {
			all = append(all, *s.pods[k].DeepCopy())
		}
	}
	return all
}

// RemovePod removes a pod, namespace/name.
func (s *Server) RemovePod(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, name)
}

// PutBudget adds a PodDisruptionBudget, which allows as many disruptions as its
// status says, for ever. Refused evictions come with Retry-After of so many
// seconds; 0 sends none.
func (s *Server) PutBudget(b policyv1.PodDisruptionBudget, after int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets = append(s.budgets, b)
	s.after = after
}

// DropBudgets removes all of them.
func (s *Server) DropBudgets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets = nil
}

// Break makes every call fail, or work again.
func (s *Server) Break(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// Evicted returns the pods that were evicted, in order.
func (s *Server) Evicted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.evicted)
}

// Restarts counts the changes of a deployment's pods.
func (s *Server) Restarts(deployment string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deployed[deployment]
}

// Deploy makes a deployment, or removes it.
func (s *Server) Deploy(name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !there {
		delete(s.deployed, name)
	} else if _, has := s.deployed[name]; !has {
		s.deployed[name] = 0
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, f func(r *http.Request) (any, *metav1.Status)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			body, fault := f(r)
			if s.broken {
				fault = status(http.StatusInternalServerError, "InternalError", "the API server is broken")
			}
			after := s.after
			s.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			if fault != nil {
				if fault.Code == http.StatusTooManyRequests && after > 0 {
					w.Header().Set("Retry-After", strconv.Itoa(after))
				}
				w.WriteHeader(int(fault.Code))
				body = fault
			}
			// Whoever asked may have gone.
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	s.discovery(answer)
	s.nodeRoutes(answer)
	s.podRoutes(answer)
	answer("PATCH /apis/apps/v1/namespaces/{ns}/deployments/{name}", func(r *http.Request) (any, *metav1.Status) {
		name := r.PathValue("name")
		if _, has := s.deployed[name]; !has {
			return nil, missing("deployments", name)
		}
		s.deployed[name]++
		return map[string]any{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": map[string]any{"name": name}}, nil
	})
	return mux
}

type answerer func(pattern string, f func(r *http.Request) (any, *metav1.Status))

func (s *Server) discovery(answer answerer) {
	answer("GET /readyz/etcd", func(*http.Request) (any, *metav1.Status) { return "ok", nil })
	answer("GET /api", func(*http.Request) (any, *metav1.Status) { return metav1.APIVersions{Versions: []string{"v1"}}, nil })
	answer("GET /apis", func(*http.Request) (any, *metav1.Status) {
		v := metav1.GroupVersionForDiscovery{GroupVersion: "policy/v1", Version: "v1"}
		return metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "policy", Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}}}, nil
	})
	answer("GET /api/v1", func(*http.Request) (any, *metav1.Status) {
		return metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Namespaced: true, Kind: "Pod"}, {Name: "pods/eviction", Namespaced: true, Group: "policy", Version: "v1", Kind: "Eviction"},
		}}, nil
	})
	answer("GET /apis/policy/v1/namespaces/{ns}/poddisruptionbudgets", func(r *http.Request) (any, *metav1.Status) {
		list := policyv1.PodDisruptionBudgetList{}
		for _, b := range s.budgets {
			if b.Namespace == r.PathValue("ns") {
				list.Items = append(list.Items, b)
			}
		}
		return list, nil
	})
}

func (s *Server) nodeRoutes(answer answerer) {
	answer("GET /api/v1/nodes", func(*http.Request) (any, *metav1.Status) {
		list := corev1.NodeList{}
		for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
			list.Items = append(list.Items, *s.nodes[name])
		}
		return list, nil
	})
	answer("GET /api/v1/nodes/{name}", func(r *http.Request) (any, *metav1.Status) {
		if n := s.nodes[r.PathValue("name")]; n != nil {
			return n, nil
		}
		return nil, missing("nodes", r.PathValue("name"))
	})
	answer("PATCH /api/v1/nodes/{name}", func(r *http.Request) (any, *metav1.Status) {
		n := s.nodes[r.PathValue("name")]
		if n == nil {
			return nil, missing("nodes", r.PathValue("name"))
		}
		patched, fault := merged(n, r.Body)
		if fault != nil {
			return nil, fault
		}
		if patched.ResourceVersion != n.ResourceVersion {
			return nil, status(http.StatusConflict, metav1.StatusReasonConflict, "the node was changed")
		}
		s.version++
		patched.ResourceVersion = strconv.Itoa(s.version)
		s.nodes[n.Name] = patched
		return patched, nil
	})
}

// merged applies a JSON merge patch (RFC 7386).
func merged(n *corev1.Node, body io.Reader) (*corev1.Node, *metav1.Status) {
	var patch, tree any
	if err := json.NewDecoder(body).Decode(&patch); err != nil {
		return nil, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	was, _ := json.Marshal(n) // it was read as JSON
	_ = json.Unmarshal(was, &tree)
	now, _ := json.Marshal(merge(tree, patch))
	out := &corev1.Node{}
	if err := json.Unmarshal(now, out); err != nil {
		return nil, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	return out, nil
}

func merge(into, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	m, ok := into.(map[string]any)
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

func (s *Server) podRoutes(answer answerer) {
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
	answer("GET /api/v1/pods", func(r *http.Request) (any, *metav1.Status) { return list(r, "") })
	answer("GET /api/v1/namespaces/{ns}/pods", func(r *http.Request) (any, *metav1.Status) { return list(r, r.PathValue("ns")) })
	answer("GET /api/v1/namespaces/{ns}/pods/{name}", func(r *http.Request) (any, *metav1.Status) {
		if p := s.pods[r.PathValue("ns")+"/"+r.PathValue("name")]; p != nil {
			return p, nil
		}
		return nil, missing("pods", r.PathValue("name"))
	})
	answer("POST /api/v1/namespaces/{ns}/pods", func(r *http.Request) (any, *metav1.Status) {
		p := &corev1.Pod{}
		if err := json.NewDecoder(r.Body).Decode(p); err != nil {
			return nil, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
		p.Namespace = r.PathValue("ns")
		key := p.Namespace + "/" + p.Name
		if s.pods[key] != nil {
			return nil, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "there is one")
		}
		s.pods[key] = p
		return p, nil
	})
	answer("DELETE /api/v1/namespaces/{ns}/pods/{name}", func(r *http.Request) (any, *metav1.Status) {
		key := r.PathValue("ns") + "/" + r.PathValue("name")
		if s.pods[key] == nil {
			return nil, missing("pods", r.PathValue("name"))
		}
		delete(s.pods, key)
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	})
	answer("POST /api/v1/namespaces/{ns}/pods/{name}/eviction", func(r *http.Request) (any, *metav1.Status) {
		key := r.PathValue("ns") + "/" + r.PathValue("name")
		p := s.pods[key]
		if p == nil {
			return nil, missing("pods", r.PathValue("name"))
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

func missing(resource, name string) *metav1.Status {
	return status(http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", resource, name))
}

// ReadyNode returns a node of an instance that is Ready.
func ReadyNode(name, zone string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zone + "/" + name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Images: []corev1.ContainerImage{{Names: []string{"registry.k8s.io/pause:3.10.1"}}}},
	}
}

// RunningPod returns a pod that is Ready, of a controller if there is one.
func RunningPod(namespace, name, node, controller string, l map[string]string) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: l, UID: "uid-of-a-test"},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	if controller != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: controller, Controller: &yes, UID: "uid-of-" + "a-set"}}
	}
	return p
}

// StaticPod returns a pod that a kubelet runs by itself, and that no drain moves.
func StaticPod(name, node string) corev1.Pod {
	p := RunningPod("kube-system", name+"-"+node, node, "", nil)
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "static"}
	return p
}
