package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
)

// meter is a proxy to an emulated AWS that counts requests and the time during which at least one is pending.
type meter struct {
	next http.Handler

	mu    sync.Mutex
	calls map[string]int // by service and action or method
	open  int
	since time.Time     // when open last left 0
	busy  time.Duration // total time with open above 0
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	m.begin(call(r, string(body)))
	defer m.end()
	m.next.ServeHTTP(w, r)
}

// call returns a request's name: the action for protocols with one in the body, else the method.
func call(r *http.Request, body string) string {
	service := "unsigned"
	// Credential=KEY/DAY/REGION/SERVICE/aws4_request
	if parts := strings.Split(r.Header.Get("Authorization"), "/"); len(parts) > 3 {
		service = parts[3]
	}
	if form, err := url.ParseQuery(body); err == nil && form.Get("Action") != "" {
		return service + "_" + form.Get("Action")
	}
	return service + "_" + r.Method
}

func (m *meter) begin(call string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open++; m.open == 1 {
		m.since = time.Now()
	}
	m.calls[call]++
}

func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open--; m.open == 0 {
		m.busy += time.Since(m.since)
	}
}

// put writes an object to the emulator's S3, or creates a bucket.
func put(t *testing.T, address, text string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("put %s: %s", address, answer.Status)
	}
}

// writeStateStore writes the cluster's state store in kOps's layout.
func writeStateStore(t *testing.T, bucket string) {
	put(t, bucket, "")
	object := func(key, format string, args ...any) {
		put(t, bucket+"/"+name+"/"+key, fmt.Sprintf(format, args...))
	}
	object("config", "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: %s}\nspec:\n  cloudProvider: aws\n  api: {loadBalancer: {class: Network, type: Public}}\n  subnets: [{name: a, cidr: 10.9.0.0/20, zone: us-east-1a, type: Public}]\n", name)
	object("kops-version.txt", "1.36.2\n")
	object("addons/bootstrap-channel.yaml", "spec:\n  addons:\n  - {name: dns-controller.addons.k8s.io, manifestHash: x}\n")
	group := func(group, role, dir string, n int) {
		object("instancegroup/"+group, "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: %s}\nspec: {role: %s, minSize: %d, maxSize: %d, subnets: [a]}\n", group, role, n, n)
		object("igconfig/"+dir+"/"+group+"/nodeupconfig.yaml", nodeConfig)
	}
	group("control-plane-a", "Master", "control-plane", 3)
	for n := range groups {
		group(fmt.Sprintf("nodes-%02d", n), "Node", "node", size)
	}
}

// TestBenchAWSAudit audits the cluster of TestBenchAWS with its state store in S3, with the command: requests, time without
// the emulator's, memory. The emulator's time is that with at least one pending request.
func TestBenchAWSAudit(t *testing.T) {
	if os.Getenv("MUSTER_BIN") != "" {
		t.Skip("SKIPPED: make bench measures the overlay; make bench-aws runs this")
	}
	emulator := awstest.Start(t)
	build(t)
	writeStateStore(t, emulator+"/kops-state")
	to, err := url.Parse(emulator)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{next: httputil.NewSingleHostReverseProxy(to), calls: map[string]int{}}
	front := httptest.NewServer(m)
	defer front.Close()
	awstest.Environ(t, front.URL)

	var before, after runtime.MemStats
	var out, errs bytes.Buffer
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	code := cli.Main([]string{"audit", "cluster", name, "--state", "s3://kops-state", "--no-probes", "-o", "json"}, strings.NewReader(""), &out, &errs)
	took := time.Since(began)
	runtime.ReadMemStats(&after)

	var report struct {
		Findings []struct{ ID string }
		Groups   []struct{ Name, Joinable, BrokenLink string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || code != cli.ExitFindings {
		t.Fatalf("exit %d, %v; %s", code, err, errs.String())
	}
	if len(report.Groups) != groups+1 {
		t.Errorf("%d groups judged, want %d", len(report.Groups), groups+1)
	}
	for _, g := range report.Groups {
		// The emulated roles cannot read the state store, which the group in the middle
		// of a roll does not need.
		want := "does-not-join permissions"
		if g.Name == "nodes-00" {
			want = "joins "
		}
		if got := g.Joinable + " " + g.BrokenLink; got != want {
			t.Errorf("group %s: %s, want %s", g.Name, got, want)
		}
	}
	total := 0
	for _, c := range slices.Sorted(maps.Keys(m.calls)) {
		fmt.Printf("bench audit_calls_%s %d calls\n", c, m.calls[c])
		total += m.calls[c]
		if m.calls[c] > 12 && !strings.HasPrefix(c, "s3_") {
			t.Errorf("%s was called %d times; at most 12", c, m.calls[c])
		}
	}
	fmt.Printf("bench audit_calls %d calls\n", total)
	fmt.Printf("bench audit_findings %d findings\n", len(report.Findings))
	fmt.Printf("bench audit_total %.2f s\n", took.Seconds())
	fmt.Printf("bench audit_emulator %.2f s\n", m.busy.Seconds())
	fmt.Printf("bench audit_own %.2f s\n", (took - m.busy).Seconds())
	fmt.Printf("bench audit_allocated %.1f MiB\n", float64(after.TotalAlloc-before.TotalAlloc)/(1<<20))
	fmt.Printf("bench audit_heap %.1f MiB\n", float64(after.HeapSys)/(1<<20))
}
