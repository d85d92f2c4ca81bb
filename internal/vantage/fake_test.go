package vantage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/muster-dev/muster/internal/probe"
)

// cluster is an API server with nodes, pods, and logs that grow while a pod is
// there. It is what these tests ask for and no more.
type cluster struct {
	t   testing.TB
	url string

	mu      sync.Mutex // guards what follows
	nodes   map[string]corev1.Node
	pods    map[string]*corev1.Pod
	made    []corev1.Pod // every pod that was ever created
	samples map[string][]probe.Sample
	fails   map[string]bool // nodes from which the API is not reached
	cut     int             // each stream gets so many lines further than the one before; 0 for no end
	streams int
	broken  int    // status of every answer; 0 for its own
	forbid  bool   // nobody may create pods
	pulls   string // why an image cannot be pulled; empty if it can
}

func start(t testing.TB) *cluster {
	c := &cluster{t: t, nodes: map[string]corev1.Node{}, pods: map[string]*corev1.Pod{}, samples: map[string][]probe.Sample{}, fails: map[string]bool{}}
	mux := http.NewServeMux()
	const pods = "/api/v1/namespaces/kube-system/pods"
	mux.HandleFunc("GET /api/v1/nodes", c.listNodes)
	mux.HandleFunc("GET "+pods, c.listPods)
	mux.HandleFunc("POST "+pods, c.create)
	mux.HandleFunc("DELETE "+pods, c.deleteAll)
	mux.HandleFunc("GET "+pods+"/{name}", c.get)
	mux.HandleFunc("DELETE "+pods+"/{name}", c.delete)
	mux.HandleFunc("GET "+pods+"/{name}/log", c.log)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		broken := c.broken
		c.mu.Unlock()
		if broken != 0 {
			refuse(w, broken, "ServiceUnavailable", "broken on purpose")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *cluster) client() kubernetes.Interface {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: c.url, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}})
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message})
}

// with changes the cluster.
func (c *cluster) with(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// node adds a worker, or takes the place of one; age orders them.
func (c *cluster) node(name string, age int, change ...func(*corev1.Node)) {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{groupLabel: "nodes-a"}, CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Duration(age) * time.Hour))}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, f := range change {
		f(&n)
	}
	c.with(func() { c.nodes[name] = n })
}

func (c *cluster) listNodes(w http.ResponseWriter, r *http.Request) {
	if got := r.URL.Query().Get("labelSelector"); got != groupLabel+"=nodes-a" {
		c.t.Errorf("nodes are asked for by %q", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}}
	for _, n := range c.nodes {
		list.Items = append(list.Items, n)
	}
	answer(w, list)
}

func (c *cluster) listPods(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, p := range c.pods {
		list.Items = append(list.Items, *p)
	}
	answer(w, list)
}

func (c *cluster) create(w http.ResponseWriter, r *http.Request) {
	var p corev1.Pod
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		refuse(w, 400, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.forbid:
		refuse(w, 403, metav1.StatusReasonForbidden, "ada may not create pods")
		return
	case c.pods[p.Name] != nil:
		refuse(w, 409, metav1.StatusReasonAlreadyExists, "it is there")
		return
	}
	p.Kind, p.APIVersion = "Pod", "v1"
	p.Status.Phase = corev1.PodRunning
	if c.pulls != "" {
		p.Status.Phase = corev1.PodPending
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: c.pulls}}}}
	}
	c.pods[p.Name] = &p
	c.made = append(c.made, p)
	answer(w, p)
}

func (c *cluster) get(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[r.PathValue("name")]
	if p == nil {
		refuse(w, 404, metav1.StatusReasonNotFound, "no such pod")
		return
	}
	answer(w, p)
}

func (c *cluster) delete(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[r.PathValue("name")] == nil {
		refuse(w, 404, metav1.StatusReasonNotFound, "no such pod")
		return
	}
	delete(c.pods, r.PathValue("name"))
	answer(w, metav1.Status{Status: "Success"})
}

func (c *cluster) deleteAll(w http.ResponseWriter, r *http.Request) {
	label, value, _ := strings.Cut(r.URL.Query().Get("labelSelector"), "=")
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, p := range c.pods {
		if p.Labels[label] == value {
			delete(c.pods, name)
		}
	}
	answer(w, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}})
}

// log streams what the pod measured since a time, and goes on measuring.
func (c *cluster) log(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	var since time.Time
	if text := r.URL.Query().Get("sinceTime"); text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			c.t.Errorf("sinceTime %q: %v", text, err)
		}
	}
	fmt.Fprintln(w, "muster: probing 2 paths") // not every line is a sample
	c.mu.Lock()
	c.streams++
	end := c.cut * c.streams
	c.mu.Unlock()
	for i := 0; ; i++ {
		c.mu.Lock()
		p := c.pods[name]
		if p == nil || p.Status.Phase != corev1.PodRunning {
			c.mu.Unlock()
			return
		}
		if i == len(c.samples[name]) {
			s := probe.Sample{Path: probe.ByName, Began: time.Now(), Took: time.Duration(i)} // its number, so that none can hide
			if c.fails[p.Spec.NodeName] {
				s.Err = "refused"
			}
			c.samples[name] = append(c.samples[name], s)
		}
		s := c.samples[name][i]
		c.mu.Unlock()
		if s.Began.Before(since) {
			continue
		}
		data, _ := json.Marshal(s)
		fmt.Fprintf(w, "%s\n", data)
		w.(http.Flusher).Flush()
		if end > 0 && i+1 >= end {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// measuring are the nodes with a pod now, sorted.
func (c *cluster) measuring() (nodes []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		nodes = append(nodes, p.Spec.NodeName)
	}
	slices.Sort(nodes)
	return nodes
}
