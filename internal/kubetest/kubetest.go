// Package kubetest is a fake API server: nodes, pods with evictions, PodDisruptionBudgets and deployments, in memory or over
// HTTP, for the real client. It implements only what tests of this module use; where the behaviour of Kubernetes itself
// matters, test/cluster runs the real one.
package kubetest

import (
	"cmp"
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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Server is a cluster's API. It is safe for concurrent use, and an [http.RoundTripper] that needs no network.
type Server struct {
	URL string // empty for one that does not listen

	handler http.Handler

	mu         sync.Mutex // guards the fields below
	version    int
	nodes      map[string]*corev1.Node
	pods       map[string]*corev1.Pod // by namespace/name
	budgets    []policyv1.PodDisruptionBudget
	restarts   map[string]int // restarts of deployments, by name
	evicted    []string
	broken     bool
	retryAfter int // Retry-After of a denied eviction, in seconds
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
	s := &Server{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, restarts: map[string]int{}}
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

// Client returns a real client of the server.
func (s *Server) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	var transport http.RoundTripper
	if s.URL == "" {
		transport = s
	}
	return ClientBy(t, s.URL, transport)
}

// ClientBy returns a real client of the server at url with a transport; nil is the default one.
func ClientBy(t testing.TB, url string, transport http.RoundTripper) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{
		Host: cmp.Or(url, "http://api.example.net"), Transport: transport, QPS: -1, Timeout: 30 * time.Second,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// PutNode adds or replaces a node.
func (s *Server) PutNode(n corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	n.ResourceVersion = strconv.Itoa(s.version)
	s.nodes[n.Name] = &n
}

// Node returns a copy of a node, or nil.
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

// PutPod adds or replaces a pod.
func (s *Server) PutPod(p corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[p.Namespace+"/"+p.Name] = &p
}

// Pods returns copies of the pods whose name begins with prefix.
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

// PutBudget adds a PodDisruptionBudget, which allows as many disruptions as its status says and is never replenished. Denied
// evictions have a Retry-After of the given seconds; 0 for none.
func (s *Server) PutBudget(b policyv1.PodDisruptionBudget, retryAfter int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets = append(s.budgets, b)
	s.retryAfter = retryAfter
}

// DropBudgets removes all budgets.
func (s *Server) DropBudgets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets = nil
}

// Break makes every call fail, or succeed again.
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

// Restarts returns how often a deployment was patched.
func (s *Server) Restarts(deployment string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts[deployment]
}

// Deploy creates or removes a deployment.
func (s *Server) Deploy(name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !there {
		delete(s.restarts, name)
	} else if _, has := s.restarts[name]; !has {
		s.restarts[name] = 0
	}
}

// pause is an image that all nodes have.
const pause = "registry.k8s.io/pause:3.10.1"

// Running is the status of a pod that is Ready.
func Running() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
}

// ReadyNode returns a Ready node.
func ReadyNode(name, zone string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zone + "/" + name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Images: []corev1.ContainerImage{{Names: []string{pause}}}},
	}
}

// RunningPod returns a Ready pod, owned by a controller unless that is empty.
func RunningPod(namespace, name, node, controller string, l map[string]string) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: l, UID: "uid-of-a-test"},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: pause}}},
		Status:     Running(),
	}
	if controller != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: controller, Controller: &yes, UID: "uid-of-" + "a-set"}}
	}
	return p
}

// StaticPod returns the mirror pod of a static pod, which drains ignore.
func StaticPod(name, node string) corev1.Pod {
	p := RunningPod("kube-system", name+"-"+node, node, "", nil)
	p.Spec.HostNetwork = true
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "static"}
	return p
}
