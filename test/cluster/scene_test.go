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

// The test program is the stand-in kops, too, where it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kops" {
		os.Exit(kopstest.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getuid() == 0 && os.Getenv(apart) == "" {
		os.Exit(runApart())
	}
	os.Exit(m.Run())
}

// scene is a cluster that kOps built, in an emulated AWS, with a real control
// plane, and machines that boot. What is done to it is done by the built muster,
// as by an operator: nothing of it is called but by its command line.
type scene struct {
	*testing.T
	name     string // of the cluster
	dir      string // where the operator works
	aws      string // address of the emulator
	kube     *controlPlane
	store    store.Store
	provider *aws.Provider
	overlay  *overlay
	booter   *kopstest.Booter
}

const stateStore = "s3://kops-state"

// newScene loads a sample. $KOPS, where it is set, is the kops that is run; else a
// stand-in is found on PATH, as any kops is.
func newScene(t *testing.T, sample string) *scene {
	t.Helper()
	if os.Getenv("MUSTER_BIN") == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make test-cluster builds them and runs this")
	}
	switch alone := os.Getenv(apart) != ""; {
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

// environ is what the operator's shell has.
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

// command is a muster that runs, or has run.
type command struct {
	s    *scene
	args []string
	cmd  *exec.Cmd

	mu       sync.Mutex // guards what follows
	out, err bytes.Buffer
	ended    chan struct{}
}

// muster starts a command. env is put over the environment.
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
		_ = c.cmd.Wait() // its code is asked for
		close(c.ended)
	}()
	s.Cleanup(func() {
		_ = c.cmd.Process.Kill() // one that has ended is what is wanted
		<-c.ended
	})
	return c
}

// locked is a buffer that is read while it is written.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// said is all that the command has written so far.
func (c *command) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err.String() + c.out.String()
}

// stdout is what it has written there.
func (c *command) stdout() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// says waits until the command has written what the expression matches. It returns
// false if the machine was too slow for that.
func (c *command) says(pattern string) bool {
	c.s.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(commandWithin)
	for !re.MatchString(c.said()) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			c.s.Fatalf("muster %s has not said %q within %v; %s\n%s", strings.Join(c.args, " "), pattern, commandWithin, c.s.booter, c.said())
		case <-c.ended:
			if c.wait(); c.starved() {
				return false
			}
			c.s.Fatalf("muster %s ended before it said %q", strings.Join(c.args, " "), pattern)
		}
	}
	return true
}

// tooSlow is the gate that stops a run on a machine which starves the API server.
const tooSlow = `gate "the API was reached all the time from operator": fail`

// starved reports whether a command ended because this machine is too busy for the
// gate that measures. An operator would run it again as well.
func (c *command) starved() bool {
	if c.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(c.said(), tooSlow) {
		return false
	}
	c.s.Log("this machine is so busy that the API server was too slow for the gate; once more")
	return true
}

// commandWithin bounds one command.
const commandWithin = 8 * time.Minute

// wait waits for the end, logs what an operator saw, and returns the exit code; -1
// of one that was killed.
func (c *command) wait() int {
	c.s.Helper()
	select {
	case <-c.ended:
	case <-time.After(commandWithin):
		c.s.Fatalf("muster %s is not done after %v; %s\n%s", strings.Join(c.args, " "), commandWithin, c.s.booter, c.said())
	}
	code := c.cmd.ProcessState.ExitCode()
	c.s.Logf("$ muster %s\n%s[exit %d]", strings.Join(c.args, " "), c.said(), code)
	return code
}

// do runs a command to its end, which must be this one, and returns what it wrote
// to standard output.
func (s *scene) do(code int, args ...string) string {
	s.Helper()
	c := s.muster(nil, args...)
	if got := c.wait(); got != code {
		s.Fatalf("muster %s exits %d, want %d", strings.Join(args, " "), got, code)
	}
	return c.stdout()
}

func (s *scene) see() *observe.Cluster {
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

// instances returns all that were ever started, by group.
func instances(o *cloud.Observation) map[string][]string {
	all := make(map[string][]string)
	for _, g := range o.Groups {
		for _, i := range g.Instances {
			all[g.Name] = append(all[g.Name], i.ID)
		}
	}
	return all
}

// lookOnly is an AWS that refuses every change, as to credentials that may only
// read, and counts what it was asked.
type lookOnly struct {
	url string

	mu      sync.Mutex // guards what follows
	asked   int
	refused []string
}

var action = regexp.MustCompile(`(?:^|&)Action=([A-Za-z]+)`)

func startLookOnly(t *testing.T, aws string) *lookOnly {
	t.Helper()
	to, err := url.Parse(aws)
	if err != nil {
		t.Fatal(err)
	}
	l := &lookOnly{}
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
		l.asked++
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

// environ leads a command there, and to a user of the API who may only look.
func (l *lookOnly) environ(k *controlPlane) []string {
	return []string{"AWS_ENDPOINT_URL=" + l.url, "S3_ENDPOINT=" + l.url, "KUBECONFIG=" + k.readOnly}
}
