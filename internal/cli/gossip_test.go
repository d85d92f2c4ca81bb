package cli_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/portforward/portforwardtest"
)

// mesh VAR SECRET KEY=VALUE... runs a full participant of the weave overlay, with
// records, until the script ends, and puts its address into VAR. A second one
// joins the first.
func mesh(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mesh VAR SECRET KEY=VALUE...")
	}
	cfg := weave.Config{NodeName: "node-" + args[0], Secret: []byte(args[1]), Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	if first := ts.Getenv("MESH"); first != "" {
		seed := netip.MustParseAddrPort(first)
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{seed}, nil }
	}
	node, err := weave.New(cfg)
	ts.Check(err)
	addr := gossips(ts, node, args[2:])
	if cfg.Seeds != nil {
		<-node.Synced()
	}
	ts.Setenv(args[0], addr.String())
	if ts.Getenv("MESH") == "" {
		ts.Setenv("MESH", addr.String())
	}
}

// members VAR KEY=VALUE... runs a member of the kops-memberlist overlay, with
// records, until the script ends, and puts its address into VAR.
func members(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: members VAR KEY=VALUE...")
	}
	node, err := kopsmemberlist.New(kopsmemberlist.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	ts.Check(err)
	ts.Setenv(args[0], gossips(ts, node, args[1:]).String())
}

// gossips runs a peer with records until the script ends.
func gossips(ts *testscript.TestScript, node interface {
	Publish(key, value string) error
	Run(context.Context) error
	Addr(context.Context) (netip.AddrPort, error)
}, records []string) netip.AddrPort {
	for _, record := range records {
		key, value, _ := strings.Cut(record, "=")
		ts.Check(node.Publish(key, value))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	ts.Defer(func() { cancel(); <-ended })
	addr, err := node.Addr(ctx)
	ts.Check(err)
	return addr
}

// apiserver KUBECONFIG PORT=ADDRESS... runs an API server that forwards ports of
// its node 10.0.0.1 to addresses on loopback, and writes a kubeconfig.
func apiserver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: apiserver KUBECONFIG PORT=ADDRESS...")
	}
	s := portforwardtest.Start()
	ts.Defer(s.Close)
	s.Ports = make(map[string]string)
	for _, forward := range args[1:] {
		port, addr, _ := strings.Cut(forward, "=")
		_, to, err := net.SplitHostPort(addr)
		ts.Check(err)
		s.Ports[port] = to
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), s.Kubeconfig(), 0o600))
}

// serves VAR NAME runs a TLS server for a name on loopback and puts its port
// into VAR.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serves VAR NAME")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: args[1:], NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	ts.Defer(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}
