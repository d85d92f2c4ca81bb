package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Dial connects to a port of the node with the given address. The connection supports deadlines. Errors at its remote end,
// such as a refused connection, are returned by the next Read.
func (g *Gateway) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	for _, p := range g.pods {
		if p.Addr == addr.Addr().Unmap() {
			c, err := g.forward(ctx, p, addr)
			if err != nil {
				return nil, fmt.Errorf("forward port %d through pod %s: %w", addr.Port(), p.Name, err)
			}
			return c, nil
		}
	}
	return nil, fmt.Errorf("reach %s through the API server: no pod of %s with hostNetwork runs on a node with that address", addr, namespace)
}

func (g *Gateway) forward(ctx context.Context, p Pod, addr netip.AddrPort) (net.Conn, error) {
	tunnel, err := g.tunnel(ctx, p)
	if err != nil {
		return nil, err
	}
	// The first stream carries errors only, from the server.
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(int(addr.Port())))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	errs, err := tunnel.CreateStream(headers)
	if err != nil {
		closeTunnel(tunnel)
		return nil, err
	}
	errs.Close()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := tunnel.CreateStream(headers)
	if err != nil {
		closeTunnel(tunnel)
		return nil, err
	}
	return newConn(tunnel, data, errs, addr), nil
}

// tunnel opens a connection to a pod's ports. It falls back to plain SPDY if WebSockets are refused, as by API servers
// before 1.30 and some proxies.
func (g *Gateway) tunnel(ctx context.Context, p Pod) (httpstream.Connection, error) {
	at := g.base.JoinPath("api/v1/namespaces", namespace, "pods", p.Name, "portforward")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	transport, connHolder, err := websocket.RoundTripperFor(g.config)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(transport, connHolder, req, constants.WebsocketsSPDYTunnelingPrefix+clientportforward.PortForwardProtocolV1Name)
	if err == nil {
		return spdy.NewClientConnectionWithPings(clientportforward.NewTunnelingConnection("muster", conn), clientportforward.PingPeriod)
	}
	if !httpstream.IsUpgradeFailure(err) && !httpstream.IsHTTPSProxyError(err) {
		return nil, err
	}
	return g.dialSPDY(ctx, at.String())
}

func (g *Gateway) dialSPDY(ctx context.Context, at string) (httpstream.Connection, error) {
	tls, err := rest.TLSConfigFor(g.config)
	if err != nil {
		return nil, err
	}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: tls, Proxier: g.config.Proxy, PingPeriod: clientportforward.PingPeriod})
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPWrappersForConfig(g.config, upgrader)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, clientportforward.PortForwardProtocolV1Name)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	conn, err := upgrader.NewConnection(resp)
	if err != nil {
		return nil, err
	}
	if got := resp.Header.Get(httpstream.HeaderProtocolVersion); got != clientportforward.PortForwardProtocolV1Name {
		closeTunnel(conn)
		return nil, fmt.Errorf("the API server speaks %q, not %q", got, clientportforward.PortForwardProtocolV1Name)
	}
	return conn, nil
}

// closeTunnel closes a tunnel. An error means that its connection is gone already.
func closeTunnel(c httpstream.Connection) { _ = c.Close() }

// linger is how long Close waits for the remote end to read what was sent.
const linger = time.Second

// conn is a forwarded connection: one end of a pipe, since streams have no deadlines, whose other end is copied to and
// from the stream.
type conn struct {
	net.Conn // local end of the pipe
	tunnel   httpstream.Connection
	addr     netip.AddrPort

	sent     chan struct{} // closed when all data has been written to the stream
	received chan struct{} // closed when the data stream has ended
	reported chan struct{} // closed when the error stream has ended
	report   error         // from the error stream; valid after reported
	readErr  error         // why the data stream ended; valid after received
}

func newConn(tunnel httpstream.Connection, data, errs httpstream.Stream, addr netip.AddrPort) *conn {
	local, remote := net.Pipe()
	c := &conn{Conn: local, tunnel: tunnel, addr: addr, sent: make(chan struct{}), received: make(chan struct{}), reported: make(chan struct{})}
	go c.send(data, remote)
	go c.receive(data, remote)
	go c.readReport(errs)
	return c
}

func (c *conn) send(data httpstream.Stream, remote net.Conn) {
	defer close(c.sent)
	// The pipe ends when it is closed, whatever the error.
	_, _ = io.Copy(data, remote)
	data.Close() // half-close: the remote end may still send
}

func (c *conn) receive(data httpstream.Stream, remote net.Conn) {
	defer close(c.received)
	_, c.readErr = io.Copy(remote, data)
	// The error may arrive after the end of the data.
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-c.reported:
		if c.report != nil {
			c.readErr = c.report
		}
	case <-timer.C:
	}
	remote.Close()
}

// maxReport bounds an error message, in bytes.
const maxReport = 1 << 10

func (c *conn) readReport(errs httpstream.Stream) {
	defer close(c.reported)
	// A stream that breaks reports nothing.
	text, _ := io.ReadAll(io.LimitReader(errs, maxReport))
	if len(text) > 0 {
		c.report = errors.New(strings.Join(strings.Fields(string(text)), " "))
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		<-c.received
		if c.readErr != nil {
			err = fmt.Errorf("port %d of the node: %w", c.addr.Port(), c.readErr)
		}
	}
	return n, err
}

// Close implements net.Conn. Data written before is delivered if the remote end reads it within a second.
func (c *conn) Close() error {
	err := c.Conn.Close()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-c.received:
	case <-timer.C:
	}
	closeTunnel(c.tunnel)
	<-c.sent
	<-c.received
	<-c.reported
	return err
}

// RemoteAddr implements net.Conn: the node's address and port.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.addr) }
