package lab

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/apiserver"
	"github.com/muster-dev/muster/internal/lab/loadbalancer"
	"github.com/muster-dev/muster/internal/node"
)

// ProcessVerb is the hidden subcommand of muster for the lab's own programs: the API server, the load balancer and
// the kubelet stand-in.
const ProcessVerb = "lab-process"

// ProcessMain runs one of the lab's own programs until ctx ends. args are its name and the path of its configuration.
func ProcessMain(ctx context.Context, args []string, log *slog.Logger) error {
	if len(args) != 2 {
		return fmt.Errorf("want PROGRAM CONFIG, got %d arguments", len(args))
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "apiserver":
		return runFrom(data, func(cfg apiserver.Config) error {
			cfg.Log = log
			return apiserver.Run(ctx, cfg)
		})
	case "loadbalancer":
		return loadbalancer.Run(ctx, loadbalancer.Config{SettingsFile: args[1], StatusSocket: args[1] + ".sock", Log: log})
	case "kubelet":
		return runFrom(data, func(cfg kubeletConfig) error { return runKubelet(ctx, cfg) })
	default:
		return fmt.Errorf("no program %q", args[0])
	}
}

func runFrom[T any](data []byte, run func(T) error) error {
	var cfg T
	if err := json.Unmarshal(data, &cfg); err != nil {
		return err
	}
	return run(cfg)
}

// apiServerConfig configures a control-plane node's API server.
func (l *Lab) apiServerConfig(m *machine) apiserver.Config {
	return apiserver.Config{
		Name:         m.Name,
		Listen:       netip.AddrPortFrom(m.Addr, APIPort),
		CertFile:     m.path("apiserver.crt"),
		KeyFile:      m.path("apiserver.key"),
		ClientCAFile: l.path("pki/ca.crt"),
		StateDir:     l.path("etcd"),
	}
}

// apiServer returns the program that serves the API on control-plane nodes.
func (l *Lab) apiServer() Program {
	if l.cfg.Kubernetes.Real() {
		return KubeAPIServer
	}
	return APIServer
}

// apiName is the name in the API servers' certificates.
func (l *Lab) apiName() string { return "api.internal." + l.cfg.Cluster.Name }

// writeBalancer writes the load balancer's settings, and waits until they are in effect.
func (l *Lab) writeBalancer(ctx context.Context) error {
	layout := l.Layout()
	if !layout.LoadBalancer.IsValid() {
		return nil
	}
	listener := func(name string, port uint16, check loadbalancer.HealthCheck) loadbalancer.Listener {
		check.CAFile = l.path("pki/ca.crt")
		return loadbalancer.Listener{
			Name:        name,
			Listen:      netip.AddrPortFrom(layout.LoadBalancer, port),
			Targets:     layout.addrs(port),
			HealthCheck: check,
		}
	}
	settings := loadbalancer.Settings{Listeners: []loadbalancer.Listener{
		listener("api", APIPort, loadbalancer.HealthCheck{Protocol: loadbalancer.HTTPS, ServerName: l.apiName()}),
	}}
	l.mu.Lock()
	if l.exposed {
		settings.Listeners = append(settings.Listeners, listener("discovery", node.DiscoveryPort,
			loadbalancer.HealthCheck{Protocol: loadbalancer.HTTPS, Path: "/healthz", ServerName: enrol.ServerName(l.cfg.Cluster.Name)}))
	}
	l.revision++
	settings.Revision = strconv.Itoa(l.revision)
	running := l.balancer != nil
	l.mu.Unlock()
	file := l.path("load-balancer.json")
	if err := loadbalancer.WriteSettings(file, settings); err != nil {
		return err
	}
	if !running {
		return nil // it will read them when it starts
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	_, err := loadbalancer.AwaitRevision(ctx, file+".sock", settings.Revision)
	return err
}

// issueServer issues the certificate of a control-plane node's API server. It has no addresses, because clients
// verify the name. For legacy overlays it has kops-controller's name as well.
func (l *Lab) issueServer(m *machine) error {
	name := l.cfg.Cluster.Name
	id := identity.Identity{Cluster: name, Role: identity.ControlPlane, Node: m.Name}
	return l.issue(m.path("apiserver"), id, enrol.IssueOptions{DNSNames: []string{"api.internal." + name, "api." + name, "kops-controller.internal." + name}})
}

// issueKubelet issues the certificate of a worker's kubelet stand-in: a node's, which may register itself only.
func (l *Lab) issueKubelet(m *machine) error {
	return l.issueClient(m.path("kubelet"), "system:node:"+m.Name, "system:nodes")
}

// issue writes base.crt and base.key.
func (l *Lab) issue(base string, id identity.Identity, o enrol.IssueOptions) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := l.ca.Issue(crypto.Signer(key).Public(), id, o)
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

// pin returns the pin of the CA, for a worker's boot configuration.
func (l *Lab) pin() string { return enrol.PinOf(l.ca.Certificate).String() }
