package cluster

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

const root = "../.."

// The test binary is the stand-in kops, too, when it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kops" {
		os.Exit(kopstest.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getuid() == 0 && os.Getenv(isolated) == "" {
		os.Exit(runIsolated())
	}
	os.Exit(m.Run())
}

// scene is a cluster that kOps built, in an emulated AWS, with a real control plane, and machines that boot. It is changed
// through the command line of the built muster only.
type scene struct {
	*testing.T
	name     string // of the cluster
	dir      string // the operator's working directory
	aws      string // address of the emulator
	kube     *controlPlane
	store    store.Store
	provider *aws.Provider
	overlay  *overlay
	booter   *kopstest.Booter
}

const stateStore = "s3://kops-state"

// newScene loads a sample. muster runs $KOPS if it is set; else a stand-in is on PATH.
func newScene(t *testing.T, sample string) *scene {
	t.Helper()
	if os.Getenv("MUSTER_BIN") == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make test-cluster builds them and runs this")
	}
	switch alone := os.Getenv(isolated) != ""; {
	case !alone && os.Getenv("MUSTER_REQUIRE_ALL") != "":
		t.Fatal("no network namespace, which takes root")
	case !alone:
		t.Skip("SKIPPED: no network namespace, which takes root: a sample's addresses may be somebody's here")
	}
	if !slices.Contains(awstest.Samples(t, root), sample) {
		t.Skipf("SKIPPED: sample %s is not here", sample)
	}
	s := &scene{T: t, name: awstest.SampleCluster(t, root, sample), dir: t.TempDir(), aws: awstest.Start(t)}
	awstest.LoadSample(t, root, s.aws, sample)
	s.kube = startControlPlane(t, s.name)
	s.environ()
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.store, err = open.Store(t.Context(), stateStore, open.Config{Getenv: os.Getenv})
	must()
	s.provider, err = aws.New(t.Context(), aws.Config{Cluster: s.name, Backoff: 20 * time.Millisecond})
	must()
	s.overlay = s.startOverlay()
	s.booter = &kopstest.Booter{Cluster: s.name, Store: s.store, Provider: s.provider, Kube: s.kube.client, Kubelets: s.overlay.kubelet}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.booter.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	settling, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.booter.Settled(settling); err != nil {
		t.Fatal(err)
	}
	return s
}

// environ sets the environment of the operator's shell.
func (s *scene) environ() {
	s.Setenv("KUBECONFIG", s.kube.admin)
	s.Setenv("KOPS_STATE_STORE", stateStore)
	s.Setenv("KOPS_CLUSTER_NAME", s.name)
	if os.Getenv("KOPS") != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	programs := s.TempDir()
	if err := os.Symlink(self, filepath.Join(programs, "kops")); err != nil {
		s.Fatal(err)
	}
	s.Setenv("PATH", programs+":"+os.Getenv("PATH"))
}

// command is a running or finished muster.
type command struct {
	s    *scene
	args []string
	cmd  *exec.Cmd

	mu       sync.Mutex // guards the fields below
	out, err bytes.Buffer
	ended    chan struct{}
}

// muster starts a command with additional environment variables.
func (s *scene) muster(env []string, args ...string) *command {
	s.Helper()
	c := &command{s: s, args: args, ended: make(chan struct{})}
	c.cmd = exec.CommandContext(s.Context(), filepath.Join(os.Getenv("MUSTER_BIN"), "muster"), args...)
	c.cmd.Dir, c.cmd.Env = s.dir, append(os.Environ(), env...)
	c.cmd.WaitDelay = 10 * time.Second
	c.cmd.Stdout, c.cmd.Stderr = locked{&c.mu, &c.out}, locked{&c.mu, &c.err}
	if err := c.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // the exit code is read from ProcessState
		close(c.ended)
	}()
	s.Cleanup(func() {
		_ = c.cmd.Process.Kill() // one that has ended is what is wanted
		<-c.ended
	})
	return c
}

// locked is a writer to a buffer that is read concurrently.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// output returns all that the command has written so far.
func (c *command) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err.String() + c.out.String()
}

// stdout returns its standard output so far.
func (c *command) stdout() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// waitOutput waits until the output matches a pattern. It returns false if the machine was too slow for that.
func (c *command) waitOutput(pattern string) bool {
	c.s.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(commandTimeout)
	for !re.MatchString(c.output()) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			c.s.Fatalf("muster %s has not said %q within %v; %s\n%s", strings.Join(c.args, " "), pattern, commandTimeout, c.s.booter, c.output())
		case <-c.ended:
			if c.wait(); c.starved() {
				return false
			}
			c.s.Fatalf("muster %s ended before it said %q", strings.Join(c.args, " "), pattern)
		}
	}
	return true
}

// tooSlow is the gate that stops a run if the machine starves the API server.
const tooSlow = `gate "the API was reached all the time from operator": fail`

// starved reports whether a command ended because the machine is too busy for the gate on availability. An operator would
// run it again as well.
func (c *command) starved() bool {
	if c.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(c.output(), tooSlow) {
		return false
	}
	c.s.Log("this machine is so busy that the API server was too slow for the gate; once more")
	return true
}

// commandTimeout bounds one command.
const commandTimeout = 8 * time.Minute

// wait waits for the end, logs the output, and returns the exit code, or -1 if it was killed.
func (c *command) wait() int {
	c.s.Helper()
	select {
	case <-c.ended:
	case <-time.After(commandTimeout):
		c.s.Fatalf("muster %s is not done after %v; %s\n%s", strings.Join(c.args, " "), commandTimeout, c.s.booter, c.output())
	}
	code := c.cmd.ProcessState.ExitCode()
	c.s.Logf("$ muster %s\n%s[exit %d]", strings.Join(c.args, " "), c.output(), code)
	return code
}

// do runs a command, checks its exit code, and returns its standard output.
func (s *scene) do(code int, args ...string) string {
	s.Helper()
	c := s.muster(nil, args...)
	if got := c.wait(); got != code {
		s.Fatalf("muster %s exits %d, want %d", strings.Join(args, " "), got, code)
	}
	return c.stdout()
}

func (s *scene) observe() *observe.Cluster {
	s.Helper()
	seen, err := observe.Stored(s.Context(), s.store, s.name)
	if err != nil {
		s.Fatal(err)
	}
	if err := seen.Look(s.Context(), s.provider); err != nil {
		s.Fatal(err)
	}
	if seen.Cloud == nil {
		s.Fatal(seen.Blind)
	}
	return seen
}

// instances returns the IDs of instances by group.
func instances(o *cloud.Observation) map[string][]string {
	all := make(map[string][]string)
	for _, g := range o.Groups {
		for _, i := range g.Instances {
			all[g.Name] = append(all[g.Name], i.ID)
		}
	}
	return all
}

// readOnlyAWS is a proxy to AWS that denies every change, as with read-only credentials, and counts requests.
type readOnlyAWS struct {
	url string

	mu       sync.Mutex // guards the fields below
	requests int
	refused  []string
}

var action = regexp.MustCompile(`(?:^|&)Action=([A-Za-z]+)`)

func startReadOnlyAWS(t *testing.T, aws string) *readOnlyAWS {
	t.Helper()
	to, err := url.Parse(aws)
	if err != nil {
		t.Fatal(err)
	}
	l := &readOnlyAWS{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		what := r.Method + " " + r.URL.Path
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if m := action.FindSubmatch(body); m != nil {
			what = string(m[1])
			reads = strings.HasPrefix(what, "Describe") || strings.HasPrefix(what, "Get") || strings.HasPrefix(what, "List")
		}
		l.mu.Lock()
		l.requests++
		if !reads {
			l.refused = append(l.refused, what)
		}
		l.mu.Unlock()
		if !reads {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// environ returns the environment of a command with read-only access to AWS and the API.
func (l *readOnlyAWS) environ(k *controlPlane) []string {
	return []string{"AWS_ENDPOINT_URL=" + l.url, "S3_ENDPOINT=" + l.url, "KUBECONFIG=" + k.readOnly}
}
