// Package kubetest is an API server for tests: nodes, pods with evictions,
// PodDisruptionBudgets and what surrounds them, in memory and over HTTP, spoken
// to by the real client. It is for tests only, and knows no more than what tests
// of this module ask; where the behaviour of Kubernetes itself is in question,
// test/cluster runs the real one.
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

// pause is an image that every node has.
const pause = "registry.k8s.io/pause:3.10.1"

// Running is the status of a pod that is Ready.
func Running() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
}

// ReadyNode returns a node of an instance that is Ready.
func ReadyNode(name, zone string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zone + "/" + name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Images: []corev1.ContainerImage{{Names: []string{pause}}}},
	}
}

// RunningPod returns a pod that is Ready, of a controller if there is one.
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

// StaticPod returns a pod that a kubelet runs by itself, and that no drain moves.
func StaticPod(name, node string) corev1.Pod {
	p := RunningPod("kube-system", name+"-"+node, node, "", nil)
	p.Spec.HostNetwork = true
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "static"}
	return p
}
