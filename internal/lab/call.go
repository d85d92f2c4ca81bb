package lab

import (
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
)

// callTimeout bounds one call of a gate.
const callTimeout = 3 * time.Second

// Call makes one HTTPS request from a node: from its address, and inside its network namespace if it has one. The
// server must have a certificate of the cluster's CA for serverName, whatever address is dialled, and answer 200.
func (l *Lab) Call(ctx context.Context, from string, to netip.AddrPort, serverName, path string) error {
	_, err := l.request(ctx, http.MethodGet, from, to, serverName, path)
	return err
}

// request makes one request, with the given client certificates.
func (l *Lab) request(ctx context.Context, method, from string, to netip.AddrPort, serverName, path string, as ...tls.Certificate) ([]byte, error) {
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
		TLSClientConfig:   &tls.Config{ServerName: serverName, RootCAs: roots, Certificates: as, MinVersion: tls.VersionTLS12},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+to.String()+path, nil)
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
		return nil, &statusError{resp.StatusCode, fmt.Sprintf("%s answered %s: %.100s", to, resp.Status, strings.TrimSpace(string(body)))}
	}
	return body, nil
}

// statusError is a response other than 200.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return e.message }

// notFound reports whether an API server answered that an object does not exist.
func notFound(err error) bool {
	status := (*statusError)(nil)
	return errors.As(err, &status) && status.code == http.StatusNotFound
}

// dial connects from the machine.
func (m *machine) dial(ctx context.Context, protocol, addr string) (net.Conn, error) {
	space, ip := m.network()
	m.mu.Lock()
	off := m.off
	m.mu.Unlock()
	if off {
		return nil, fmt.Errorf("%s is off", m.Name)
	}
	if space != nil {
		return space.Dial(ctx, protocol, addr)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip.AsSlice()}}
	return dialer.DialContext(ctx, protocol, addr)
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

// nodeTimeout is how old the last heartbeat of a ready node may be. In a real control plane a controller decides
// that, which the lab does not run.
const nodeTimeout = 6 * time.Second

// NodesReady returns the names of the ready nodes, from any API server that answers.
func (l *Lab) NodesReady(ctx context.Context) (ready []string, err error) {
	body, err := l.operatorRequest(ctx, http.MethodGet, "/api/v1/nodes")
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Status struct {
				Conditions []struct {
					Type, Status      string
					LastHeartbeatTime time.Time
				} `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, item := range list.Items {
		for _, c := range item.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" && time.Since(c.LastHeartbeatTime) < nodeTimeout {
				ready = append(ready, item.Metadata.Name)
			}
		}
	}
	return ready, nil
}

// deleteNode deletes a node from the API, if it exists.
func (l *Lab) deleteNode(ctx context.Context, name string) error {
	_, err := l.operatorRequest(ctx, http.MethodDelete, "/api/v1/nodes/"+name)
	if notFound(err) {
		return nil
	}
	return err
}

// operatorRequest makes a request as the cluster's operator, to any API server that answers.
func (l *Lab) operatorRequest(ctx context.Context, method, path string) (body []byte, err error) {
	pair, err := tls.LoadX509KeyPair(l.path("pki/operator.crt"), l.path("pki/operator.key"))
	if err != nil {
		return nil, err
	}
	for _, n := range l.Layout().ControlPlane() {
		body, err = l.request(ctx, method, n.Name, netip.AddrPortFrom(n.Addr, APIPort), l.apiName(), path, pair)
		if err == nil || errors.As(err, new(*statusError)) {
			break
		}
	}
	return body, err
}
