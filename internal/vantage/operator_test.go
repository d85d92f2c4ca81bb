package vantage

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/probe"
)

func TestTheOperatorMeasuresWhatAnswersAtFirst(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	nowhere := netip.MustParseAddrPort(closed.Listener.Addr().String())

	o, missing, err := NewOperator(t.Context(), "example.com", roots, []probe.Target{
		{Path: Kubeconfig, Host: "localhost", Port: at.Port()}, {Path: ControlPlane, Addr: nowhere}, {Path: probe.LoadBalancer, Addr: at},
	}, DefaultEvery)
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) != 1 || missing[0].Vantage != "operator, control-plane at "+nowhere.String() || !strings.Contains(missing[0].Why, "refused") {
		t.Errorf("not measured: %+v", missing)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan probe.Path, 100)
	done := make(chan error, 1)
	go func() { done <- o.Watch(ctx, func(p probe.Path, _ probe.Sample) { seen <- p }) }()
	paths := map[probe.Path]bool{}
	for len(paths) < 2 {
		paths[<-seen] = true
	}
	cancel()
	if err := <-done; err != nil || !paths[Kubeconfig] || !paths[probe.LoadBalancer] {
		t.Errorf("error %v, paths %v", err, paths)
	}

	if _, missing, err := NewOperator(t.Context(), "example.com", roots, []probe.Target{{Path: probe.LoadBalancer, Addr: nowhere}}, DefaultEvery); err == nil || len(missing) != 1 {
		t.Errorf("nothing answers: error %v, not measured %v", err, missing)
	}
}
