package lab

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/lab/proc"
)

// Kubernetes are the programs of a real control plane. The zero value means the lab's built-in API servers.
type Kubernetes struct {
	APIServer string `json:"apiServer,omitempty"` // kube-apiserver
	Etcd      string `json:"etcd,omitempty"`
}

// Real reports whether the API servers are real ones.
func (k Kubernetes) Real() bool { return k.APIServer != "" }

// FindKubernetes finds both programs: by flag, by the environment ($KUBE_APISERVER, $ETCD), or in PATH.
func FindKubernetes(apiServer, etcd string) (k Kubernetes, err error) {
	if k.APIServer, err = findProgram("kube-apiserver", "--kube-apiserver", apiServer, "KUBE_APISERVER"); err != nil {
		return Kubernetes{}, err
	}
	if k.Etcd, err = findProgram("etcd", "--etcd", etcd, "ETCD"); err != nil {
		return Kubernetes{}, err
	}
	return k, nil
}

func findProgram(name, flag, given, env string) (string, error) {
	source := flag
	if given == "" {
		if given = os.Getenv(env); given != "" {
			source = "$" + env
		}
	}
	if given == "" {
		source, given = "PATH", name
	}
	path, err := exec.LookPath(given)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", &UsageError{fmt.Errorf("--apiserver real: no %s (%s: %w); give %s PATH or set %s; make kubernetes builds it into bin/", name, source, err, flag, env)}
	}
	return path, nil
}

// etcdPort is the port of the lab's one etcd. It serves plain HTTP, because only the lab's own network, inside its
// namespaces, leads to it.
const etcdPort = 2379

func (l *Lab) etcdAddr() netip.AddrPort { return netip.AddrPortFrom(l.layout.etcd, etcdPort) }

// startEtcd starts the store of real API servers, and waits until it answers. One is enough: the lab is about how
// nodes find API servers.
func (l *Lab) startEtcd(ctx context.Context) error {
	space, err := l.addNamespace(ctx, "etcd", l.layout.etcd, l.path("etcd.hosts"))
	if err != nil {
		return err
	}
	url := "http://" + l.etcdAddr().String()
	process, err := l.sup.Start(ctx, proc.Spec{
		Name: "etcd",
		Path: l.cfg.Kubernetes.Etcd,
		Args: []string{
			"--name=lab", "--data-dir=" + l.path("etcd"), "--unsafe-no-fsync",
			"--listen-client-urls=" + url, "--advertise-client-urls=" + url,
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=lab=http://127.0.0.1:2380",
		},
		LogFile: l.path("etcd.log"),
		Wrap:    space.Wrap,
	})
	if err != nil {
		return err
	}
	client := http.Client{Timeout: callTimeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: space.Dial}}
	err = poll(ctx, func() (bool, error) {
		if err := checkRuns(process); err != nil {
			return false, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("etcd does not answer: %w: %s", err, strings.TrimSpace(process.Tail(3)))
	}
	return nil
}

// kubeAPIServerFlags returns the command line of a node's kube-apiserver.
func (l *Lab) kubeAPIServerFlags(m *machine) []string {
	return []string{
		"--bind-address=" + m.Addr.String(),
		"--advertise-address=" + m.Addr.String(),
		fmt.Sprintf("--secure-port=%d", APIPort),
		"--etcd-servers=http://" + l.etcdAddr().String(),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + m.path("apiserver.crt"),
		"--tls-private-key-file=" + m.path("apiserver.key"),
		"--client-ca-file=" + l.path("pki/ca.crt"),
		"--cert-dir=" + m.path("apiserver"),
		"--service-account-issuer=https://api.internal." + l.cfg.Cluster.Name,
		"--service-account-key-file=" + l.path("pki/service-accounts.pub"),
		"--service-account-signing-key-file=" + l.path("pki/service-accounts.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--shutdown-delay-duration=2s",
		"--profiling=false",
	}
}

// awaitAPI waits until a node's real API server is ready. The built-in one is ready at once.
func (m *machine) awaitAPI(ctx context.Context, l *Lab) error {
	if !l.cfg.Kubernetes.Real() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.startTimeout())
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		process, wanted, err := m.program(KubeAPIServer)
		switch {
		case !wanted:
			return true, nil
		case err != nil:
			return false, err
		case process == nil:
			return false, errors.New("it has not been started")
		}
		_, addr := m.network()
		err = l.Call(ctx, m.Name, netip.AddrPortFrom(addr, APIPort), l.apiName(), "/readyz")
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("API server on %s is not ready: %w%s", m.Name, err, m.tail())
	}
	return nil
}

// writeKubernetes writes what real API servers share: the key that signs service accounts, and the certificate with
// which Muster's daemons watch the EndpointSlice. It is that of kube-proxy, which may do that and no more.
func (l *Lab) writeKubernetes() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(l.path("pki/service-accounts.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(l.path("pki/service-accounts.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644),
		l.issueClient(l.path("pki/slice"), "system:kube-proxy", "muster"),
	)
}

// issueClient writes base.crt and base.key, a client certificate for a user and a group.
func (l *Lab) issueClient(base, user, group string) error {
	signer, err := tls.LoadX509KeyPair(l.path("pki/ca.crt"), l.path("pki/ca.key"))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: user, Organization: []string{group}},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, l.ca.Certificate, key.Public(), signer.PrivateKey)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(base+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
	)
}

// flagsFile returns a program's original command line, one flag a line, and writes it first if the file does not
// exist.
func flagsFile(path string, make func() []string) ([]string, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		for _, flag := range make() {
			data = append(data, flag+"\n"...)
		}
		err = replaceFile(path, data, 0o644)
	}
	if err != nil {
		return nil, err
	}
	var flags []string
	for line := range bytes.Lines(data) {
		flags = append(flags, string(bytes.TrimSpace(line)))
	}
	return flags, nil
}
