package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/probe"
)

// kubeletConfig configures the kubelet stand-in: whatever on a worker calls the
// API by name. It registers its Node, keeps it ready, and probes every path.
type kubeletConfig struct {
	Node        string         `json:"node"`
	ServerName  string         `json:"serverName"`
	HostsFile   string         `json:"hostsFile"`
	Port        uint16         `json:"port"`
	CA          string         `json:"ca"`
	Certificate string         `json:"certificate"`
	Key         string         `json:"key"`
	Targets     []probe.Target `json:"targets"`
	Samples     string         `json:"samples"`
	// Lease is whether the API server keeps leases, by which a real control plane
	// sees that nodes live.
	Lease bool `json:"lease,omitempty"`
	// Pause is between two probes of a path; 0 means the prober's own.
	Pause time.Duration `json:"pause,omitempty"`
}

func (l *Lab) kubeletConfig(m *machine) kubeletConfig {
	layout := l.Layout()
	cfg := kubeletConfig{
		Node:        m.Name,
		ServerName:  l.apiName(),
		HostsFile:   m.hostsFile(),
		Port:        APIPort,
		CA:          l.path("pki/ca.crt"),
		Certificate: m.path("kubelet.crt"),
		Key:         m.path("kubelet.key"),
		Samples:     m.samplesFile(),
		Lease:       l.cfg.Kubernetes.Real(),
		Targets:     []probe.Target{{Path: probe.ByName, Port: APIPort}},
	}
	if cfg.Lease {
		cfg.Pause = kubernetesPause
	}
	for _, a := range layout.balancer(APIPort) {
		cfg.Targets = append(cfg.Targets, probe.Target{Path: probe.LoadBalancer, Addr: a})
	}
	if m.wanted[Agent] {
		cfg.Targets = append(cfg.Targets, probe.Target{Path: probe.LocalBalancer, Addr: m.balancerAddr(l)})
	}
	return cfg
}

// kubernetesPause is between two probes where the API servers are real ones: each
// answer costs those milliseconds of processor time, and the machine is one.
const kubernetesPause = 500 * time.Millisecond

// kubeletBeat is how often the stand-in says that its node is well.
const kubeletBeat = time.Second

func runKubelet(ctx context.Context, cfg kubeletConfig) error {
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in it", cfg.CA)
	}
	pair, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
	if err != nil {
		return err
	}
	samples, err := os.OpenFile(cfg.Samples, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer samples.Close()

	// The node's own way to the API: by name, as its kubeconfig says. The
	// balancer is not up in the first moment of a boot, nor is the hosts block;
	// the prober starts when the node has joined once.
	client := &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{ServerName: cfg.ServerName, RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
			DialContext:       cfg.dialByName,
		},
	}
	g, ctx := errgroup.WithContext(ctx)
	joined, join := context.WithCancel(ctx)
	defer join()
	g.Go(func() error {
		for {
			if err := cfg.beat(ctx, client); err == nil {
				join()
			} else if joined.Err() == nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "not joined:", err)
			}
			pause := kubeletBeat
			if joined.Err() == nil {
				pause = pollEvery
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
	})
	g.Go(func() error {
		<-joined.Done()
		if ctx.Err() != nil {
			return nil
		}
		return probe.Run(ctx, probe.Config{
			ServerName: cfg.ServerName,
			HostsFile:  cfg.HostsFile,
			Roots:      roots,
			Targets:    cfg.Targets,
			Interval:   cfg.Pause,
		}, samples)
	})
	return g.Wait()
}

// dialByName connects to the first address of the hosts file that takes the
// connection.
func (c kubeletConfig) dialByName(ctx context.Context, _, _ string) (net.Conn, error) {
	content, err := os.ReadFile(c.HostsFile)
	if err != nil {
		return nil, err
	}
	errs := []error{fmt.Errorf("%s: no address for %s answers", c.HostsFile, c.ServerName)}
	for _, ip := range hosts.Lookup(content, c.ServerName) {
		dialer := net.Dialer{Timeout: 500 * time.Millisecond}
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, c.Port).String())
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// beat reports the node ready, and registers it first where it is not known.
func (c kubeletConfig) beat(ctx context.Context, client *http.Client) error {
	now := time.Now().UTC().Format(time.RFC3339)
	object := map[string]any{
		"apiVersion": "v1",
		"kind":       "Node",
		"metadata":   map[string]any{"name": c.Node},
		"status": map[string]any{"conditions": []map[string]any{{
			"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now,
		}}},
	}
	const nodes = "/api/v1/nodes"
	// A patch, as a kubelet's: a whole Node without the taints that the server gave
	// it is refused.
	err := c.send(ctx, client, http.MethodPatch, nodes+"/"+c.Node+"/status", object)
	if notFound(err) {
		err = c.send(ctx, client, http.MethodPost, nodes, object)
	}
	if err != nil || !c.Lease {
		return err
	}
	return c.renew(ctx, client)
}

// renew renews the node's lease, and makes it where there is none.
func (c kubeletConfig) renew(ctx context.Context, client *http.Client) error {
	lease := map[string]any{
		"apiVersion": "coordination.k8s.io/v1",
		"kind":       "Lease",
		"metadata":   map[string]any{"name": c.Node, "namespace": "kube-node-lease"},
		"spec": map[string]any{
			"holderIdentity": c.Node, "leaseDurationSeconds": 40,
			"renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		},
	}
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	err := c.send(ctx, client, http.MethodPatch, leases+"/"+c.Node, lease)
	if notFound(err) {
		err = c.send(ctx, client, http.MethodPost, leases, lease)
	}
	return err
}

func (c kubeletConfig) send(ctx context.Context, client *http.Client, method, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.ServerName+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode >= 300 {
		err = &statusError{resp.StatusCode, fmt.Sprintf("%s %s answered %s: %.200s", method, path, resp.Status, strings.TrimSpace(string(said)))}
	}
	return err
}
