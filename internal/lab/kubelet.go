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

// kubeletConfig configures the kubelet stand-in, which represents everything on a worker that calls the API by name.
// It registers its Node, keeps it ready, and probes every path.
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
	// Lease says that the API server has leases, by which a real control plane sees that nodes are alive.
	Lease bool `json:"lease,omitempty"`
	// Pause is the pause between two probes of a path; 0 means the prober's default.
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

// kubernetesPause is the pause between two probes with real API servers: each response takes those milliseconds of
// processor time, and all run on one machine.
const kubernetesPause = 500 * time.Millisecond

// heartbeatInterval is how often the stand-in reports its node ready.
const heartbeatInterval = time.Second

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

	// The node's own path to the API: by name, as in its kubeconfig. At first neither the balancer nor the hosts
	// block is there; the prober starts once the node has joined.
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
			if err := cfg.heartbeat(ctx, client); err == nil {
				join()
			} else if joined.Err() == nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "not joined:", err)
			}
			pause := heartbeatInterval
			if joined.Err() == nil {
				pause = pollInterval
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

// dialByName connects to the first address in the hosts file that accepts the connection.
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

// heartbeat reports the node ready, and registers it first if necessary.
func (c kubeletConfig) heartbeat(ctx context.Context, client *http.Client) error {
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
	// A patch, like a kubelet's: the server refuses a whole Node without the taints that it has added.
	err := c.send(ctx, client, http.MethodPatch, nodes+"/"+c.Node+"/status", object)
	if notFound(err) {
		err = c.send(ctx, client, http.MethodPost, nodes, object)
	}
	if err != nil || !c.Lease {
		return err
	}
	return c.renew(ctx, client)
}

// renew renews the node's lease, or creates it.
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
	reply, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode >= 300 {
		err = &statusError{resp.StatusCode, fmt.Sprintf("%s %s answered %s: %.200s", method, path, resp.Status, strings.TrimSpace(string(reply)))}
	}
	return err
}
