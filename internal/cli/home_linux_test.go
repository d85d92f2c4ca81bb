package cli_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mathrand "math/rand/v2"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/node"
)

const home = "home.example"

// muster runs one of the programs to its end and returns its standard output.
func muster(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v; standard output %s", program, args, err, out)
	}
	return string(out)
}

// startDaemon starts a node program and returns what stops it: SIGHUP, which does
// not, and then SIGTERM, after which it has two seconds and must exit 0.
func startDaemon(t *testing.T, program, config string) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "--config", config)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		// A terminal that goes away is no reason to stop.
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Errorf("%s: %v", program, err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%s: %v", program, err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s after SIGTERM: %v, want exit 0", program, err)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s still runs 2 s after SIGTERM", program)
			_ = cmd.Process.Kill() // it may just have ended
			<-done
		}
		if t.Failed() {
			t.Logf("%s:\n%s", program, log.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// serveAPI serves /readyz as an API server whose certificate the CA has issued.
func serveAPI(t *testing.T, ca *enrol.CA, addr string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(key.Public(), identity.Identity{Cluster: home, Role: identity.ControlPlane, Node: "cp-1"},
		enrol.IssueOptions{DNSNames: []string{"api.internal." + home}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener.Close()
	srv.Listener = ln
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
}

// ownSocket lets two daemons share a machine, where both would take the default
// address for their status.
func ownSocket(t *testing.T, config string) {
	t.Helper()
	data, err := os.ReadFile(config)
	if err == nil {
		if bytes.Contains(data, []byte("\nstatus:")) {
			return // init gave a node on loopback an address of its own
		}
		err = os.WriteFile(config, append(data, "status:\n    socket: status.sock\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// awaitWell asks a daemon until it knows of no problem.
func awaitWell(t *testing.T, program, config string) node.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	var last []byte
	for ctx.Err() == nil {
		var err error
		last, err = exec.CommandContext(ctx, program, "status", "-o", "json", "--config", config).CombinedOutput()
		var r node.Report
		if err == nil && json.Unmarshal(last, &r) == nil {
			return r
		}
	}
	t.Fatalf("%s is not well: %s", program, last)
	return node.Report{}
}

func TestAClusterThatIsNotOfKOpsFindsItsAPI(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "m") // short, for the sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := fmt.Sprintf("127.%d.%d.1", 2+mathrand.IntN(60), mathrand.IntN(250))
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	out := filepath.Join(dir, "out")
	muster(t, "muster", "init", "--name", home, "--control-plane", "cp-1="+addr, "--out", out, "--hosts", hosts)
	cp := filepath.Join(out, "nodes", "cp-1")
	ca, err := enrol.LoadCA(filepath.Join(out, "ca.crt"), filepath.Join(out, "ca.key"), home)
	if err != nil {
		t.Fatal(err)
	}
	serveAPI(t, ca, addr+":6443")

	peerConfig := filepath.Join(cp, "node.yaml")
	ownSocket(t, peerConfig)
	stopPeer := startDaemon(t, "muster-peer", peerConfig)
	awaitWell(t, "muster-peer", peerConfig)
	stopPeer() // its hosts file is the worker's too, and one daemon writes a file

	worker := filepath.Join(dir, "w")
	balancer := addr + ":16443"
	muster(t, "muster", "token", "create", "--dir", cp, "--node", "worker-1", "--out", worker, "--balance", balancer)
	agentConfig := filepath.Join(worker, "node.yaml")
	ownSocket(t, agentConfig)
	workerHosts := filepath.Join(dir, "worker-hosts")
	data, err := os.ReadFile(agentConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(agentConfig, bytes.Replace(data, []byte(hosts), []byte(workerHosts), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(workerHosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	stopPeer = startDaemon(t, "muster-peer", peerConfig)
	awaitWell(t, "muster-peer", peerConfig)
	stopAgent := startDaemon(t, "muster-agent", agentConfig)
	report := awaitWell(t, "muster-agent", agentConfig)
	if !strings.HasSuffix(report.Identity, "worker-1") {
		t.Errorf("identity %q, want worker-1's", report.Identity)
	}

	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "api.internal." + home},
	}}
	resp, err := client.Get("https://" + balancer + "/readyz")
	if err != nil {
		t.Fatalf("the API through the worker's balancer: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the API through the worker's balancer: %s, want 200", resp.Status)
	}
	for _, path := range []string{hosts, workerHosts} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{addr, "api.internal." + home, "127.0.0.1 localhost"} {
			if !strings.Contains(string(got), want) {
				t.Errorf("%s has no %q:\n%s", path, want, got)
			}
		}
	}
	if list := muster(t, "muster", "token", "list", "--dir", cp); !strings.Contains(list, "used by worker-1") {
		t.Errorf("token list: %s, want the token used by worker-1", list)
	}
	stopAgent()
	stopPeer()
}

func TestAPortThatIsTakenIsOneLineAndExit2(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	config := filepath.Join(dir, "node.yaml")
	text := fmt.Sprintf(`cluster: home.example
node: w
role: worker
stateDir: state
caPin: sha256:%064d
services: [{name: api.internal, addresses: ["127.0.0.1:1"]}]
hosts: {path: hosts}
discovery: {servers: ["127.0.0.1:1"], tokenFile: token}
status: {listen: %q}
`, 1, ln.Addr())
	for path, data := range map[string]string{hosts: "127.0.0.1 localhost\n", config: text} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "muster-agent", "--config", config)
	cmd.Stderr = &said
	_ = cmd.Run() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	for _, want := range []string{config, "status.listen", ln.Addr().String(), "choose another port"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("standard error %q, want %q in it", said.String(), want)
		}
	}
	if strings.Count(said.String(), "\n") != 1 {
		t.Errorf("standard error %q, want one line", said.String())
	}
}
