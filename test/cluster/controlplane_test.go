package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/muster-dev/muster/test/testca"
)

// controlPlane is a cluster's API on loopback: etcd, kube-apiserver, and the controllers that affect a roll. There is no
// scheduler and no kubelet; the booter emulates nodes.
type controlPlane struct {
	admin    string // kubeconfig of an administrator
	readOnly string // kubeconfig of a read-only user
	client   kubernetes.Interface
}

// programs are the programs of a control plane and the environment variables with their paths.
var programs = map[string]string{"etcd": "ETCD", "kube-apiserver": "KUBE_APISERVER", "kube-controller-manager": "KUBE_CONTROLLER_MANAGER"}

func program(t *testing.T, name string) string {
	t.Helper()
	if programs[name] == "" { // it is one of ours
		return filepath.Join(os.Getenv("MUSTER_BIN"), name)
	}
	path := os.Getenv(programs[name])
	if path == "" {
		t.Skipf("SKIPPED: no %s ($%s); make test-cluster builds it and runs this", name, programs[name])
	}
	return path
}

// startControlPlane starts the API of a cluster, until the test ends.
func startControlPlane(t *testing.T, cluster string) *controlPlane {
	t.Helper()
	for name := range programs {
		program(t, name)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	server := "api.internal." + cluster
	testca.Write(t, dir, server)
	writeKey(t, file("accounts.key"))
	write(t, file("tokens"), "admin-token,admin,1,\"system:masters\"\nreader-token,reader,2,\"readers\"\n")
	etcd, peers, api := address(t), address(t), address(t)
	c := &controlPlane{admin: kubeconfig(t, dir, server, api, "admin"), readOnly: kubeconfig(t, dir, server, api, "reader")}

	run(t, "etcd", "--name=one", "--data-dir="+file("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://"+etcd, "--advertise-client-urls=http://"+etcd,
		"--listen-peer-urls=http://"+peers, "--initial-advertise-peer-urls=http://"+peers, "--initial-cluster=one=http://"+peers)
	_, port, _ := strings.Cut(api, ":")
	run(t, "kube-apiserver", "--etcd-servers=http://"+etcd, "--bind-address=127.0.0.1", "--secure-port="+port,
		"--advertise-address=192.0.2.1", // for the kubernetes service, which nobody here asks
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16", "--profiling=false",
		"--tls-cert-file="+file(testca.Cert), "--tls-private-key-file="+file(testca.Key), "--cert-dir="+file("certs"),
		"--service-account-issuer=https://"+server, "--service-account-key-file="+file("accounts.key"), "--service-account-signing-key-file="+file("accounts.key"),
		"--token-auth-file="+file("tokens"), "--authorization-mode=RBAC",
		// There are no controllers to create accounts and to remove the taint of a new node.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
	config, err := clientcmd.BuildConfigFromFlags("", c.admin)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the API server is ready", func(ctx context.Context) error {
		_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	run(t, "kube-controller-manager", "--kubeconfig="+c.admin, "--controllers=disruption-controller,node-lifecycle-controller",
		"--leader-elect=false", "--secure-port=0", "--node-monitor-grace-period=2m")
	c.prepare(t)
	return c
}

// prepare creates a namespace and a read-only user.
func (c *controlPlane) prepare(t *testing.T) {
	t.Helper()
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
			{NonResourceURLs: []string{"*"}, Verbs: []string{"get"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "readers"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "readers"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// kubeconfig writes the kubeconfig of a user.
func kubeconfig(t *testing.T, dir, server, api, user string) string {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, testca.CA))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, user+".kubeconfig")
	write(t, path, fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
users: [{name: it, user: {token: %s-token}}]
clusters: [{name: it, cluster: {server: "https://%s", tls-server-name: %s, certificate-authority-data: %s}}]
`, user, api, server, base64.StdEncoding.EncodeToString(ca)))
	return path
}

// run starts a program, until the test ends.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t, name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// An API server that is starved by a busy machine is not an outage that is tested.
	// Without the privilege it keeps its priority.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, -10)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // one that has ended is what is wanted
		ended := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ended.Stop()
		log.Close()
		if t.Failed() {
			output, _ := os.ReadFile(log.Name())
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			t.Logf("the end of the log of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-10):], "\n"))
		}
	})
}

// address returns a free loopback address.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// writeKey writes a private key, and its public key to path.pub.
func writeKey(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	write(t, path+".pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually repeats a check until it succeeds.
func eventually(t *testing.T, timeout time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", timeout, what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
