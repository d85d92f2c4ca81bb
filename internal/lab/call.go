package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// callTimeout bounds one call that a gate makes.
const callTimeout = 3 * time.Second

// Call makes one HTTPS request from a node: from its address, and inside its
// network where it has one. The server must prove serverName by a certificate of
// the cluster's CA, whatever address is dialled, and answer 200.
func (l *Lab) Call(ctx context.Context, from string, to netip.AddrPort, serverName, path string) error {
	_, err := l.get(ctx, from, to, serverName, path)
	return err
}

func (l *Lab) get(ctx context.Context, from string, to netip.AddrPort, serverName, path string) ([]byte, error) {
	m, err := l.machine(from)
	if err != nil {
		return nil, err
	}
	roots, err := l.roots()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       m.dial,
		TLSClientConfig:   &tls.Config{ServerName: serverName, RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+to.String()+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %.100s", to, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// dial connects from the machine.
func (m *machine) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	m.mu.Lock()
	space, ip, off := m.space, m.Addr, m.off
	m.mu.Unlock()
	if off {
		return nil, fmt.Errorf("%s is off", m.Name)
	}
	if space != nil {
		return space.Dial(ctx, network, addr)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip.AsSlice()}}
	return dialer.DialContext(ctx, network, addr)
}

func (l *Lab) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(l.path("pki/ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", l.path("pki/ca.crt"))
	}
	return roots, nil
}

// NodesReady asks an API server which nodes are ready. Any that answers will do.
func (l *Lab) NodesReady(ctx context.Context) (ready []string, err error) {
	var body []byte
	for _, n := range l.Layout().ControlPlane() {
		body, err = l.get(ctx, n.Name, netip.AddrPortFrom(n.Addr, APIPort), "api.internal."+l.cfg.Cluster.Name, "/api/v1/nodes")
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Status struct {
				Conditions []struct{ Type, Status string } `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, item := range list.Items {
		for _, c := range item.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				ready = append(ready, item.Metadata.Name)
			}
		}
	}
	return ready, nil
}
