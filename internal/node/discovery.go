package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/enrol"
)

// serveDiscovery serves the worker-facing API: enrolment and the endpoint
// stream, on control-plane nodes.
func (n *Node) serveDiscovery(ctx context.Context, ln net.Listener) error {
	creds := n.credentials.Load()
	tlsConfig, err := enrol.ServerTLS(creds)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	if d := n.cfg.Discovery; d.CAKey != "" {
		ca, err := enrol.LoadCA(n.cfg.caFile(), d.CAKey, n.cfg.Cluster)
		if err != nil {
			return fmt.Errorf("discovery.caKey: %w", err)
		}
		server, err := enrol.NewServer(enrol.ServerConfig{CA: ca, Tokens: &enrol.TokenStore{Path: d.Tokens}, Log: n.log})
		if err != nil {
			return err
		}
		mux.Handle(enrol.EnrolPath, server)
		mux.Handle(enrol.RenewPath, server)
	}
	port := n.cfg.Discovery.Listen.Port()
	mux.HandleFunc("GET "+streamPath, func(w http.ResponseWriter, r *http.Request) {
		id, err := enrol.RequireIdentity(r, creds.Verifier())
		if err != nil {
			status := http.StatusForbidden
			if errors.Is(err, enrol.ErrUnauthenticated) {
				status = http.StatusUnauthorized
			}
			http.Error(w, err.Error(), status)
			return
		}
		n.log.Debug("endpoint stream opened", "reader", id.Node)
		serveStream(w, r, n.view, port)
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, &http.Server{Handler: mux, TLSConfig: tlsConfig}, ln) })
	if n.stream == nil {
		// Who follows a stream renews along with it; a control-plane node
		// renews at itself, or at whichever fellow holds the CA's key.
		g.Go(func() error {
			client, err := n.enrolClient()
			if err != nil {
				return err
			}
			return creds.RunRenewal(ctx, client)
		})
	}
	return g.Wait()
}

// followDiscovery gets the node an identity, if it has none, and then follows
// the endpoint stream and keeps the identity from expiring.
func (n *Node) followDiscovery(ctx context.Context) error {
	client, err := n.enrolClient()
	if err != nil {
		return err
	}
	creds := n.credentials.Load()
	if creds == nil {
		if creds = n.enrol(ctx, client); creds == nil {
			return nil
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	n.stream.client = &http.Client{Transport: streamTransport(creds.TLSClientConfig(enrol.ServerName(n.cfg.Cluster)))}
	g.Go(func() error { return n.stream.run(ctx) })
	g.Go(func() error { return creds.RunRenewal(ctx, client) })
	return g.Wait()
}

// enrol returns credentials, or nil when ctx ended first. A refusal does not
// stop the daemon: the endpoints that it was configured with still serve, and
// an operator can put a new token in place.
func (n *Node) enrol(ctx context.Context, client *enrol.Client) *enrol.Credentials {
	for {
		creds, err := enrol.LoadOrEnrol(ctx, n.cfg.StateDir, client, n.cfg.Discovery.TokenFile, n.cfg.Identity())
		if err == nil {
			n.credentials.Store(creds)
			n.unenrolled.Store(nil)
			n.trustOnce()
			return creds
		}
		if ctx.Err() != nil {
			return nil
		}
		why := err.Error()
		if was := n.unenrolled.Swap(&why); was == nil || *was != why {
			n.log.Error("no identity", "err", err, "retry", enrolPause.String())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(enrolPause):
		}
	}
}

// enrolPause is how long a refused node waits before it looks for a new token.
const enrolPause = 10 * time.Second

func (n *Node) enrolClient() (*enrol.Client, error) {
	pin, err := n.cfg.pin()
	if err != nil {
		return nil, err
	}
	cfg := enrol.ClientConfig{
		ServerName: enrol.ServerName(n.cfg.Cluster),
		Pin:        pin,
		CAFile:     n.cfg.caFile(),
		PerServer:  dialTimeout,
		Discovered: func() []string {
			var servers []string
			for _, e := range n.view.known(discoveryService) {
				servers = append(servers, e.Addr.String())
			}
			if d := n.cfg.Discovery; d.CAKey != "" {
				servers = append(servers, d.Listen.String())
			}
			return servers
		},
		Log: n.log,
	}
	return enrol.NewClient(cfg)
}

// followSlice follows the kubernetes EndpointSlice.
func (n *Node) followSlice(ctx context.Context) error {
	cfg := n.cfg.Slice
	select {
	case <-ctx.Done():
		return nil
	case <-n.trusted:
	}
	target := n.services[slices.IndexFunc(n.cfg.Services, func(s Service) bool { return s.Name == cfg.Service })]
	checks, ok := n.awaitRoots(ctx, target)
	if !ok {
		return nil
	}
	tlsConfig := &tls.Config{ServerName: target.cfg.ServerName, RootCAs: checks.Roots, MinVersion: tls.VersionTLS12}
	if cfg.Certificate != "" {
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.keyPair() }
	} else if creds := n.credentials.Load(); creds != nil && cfg.TokenFile == "" {
		tlsConfig.GetClientCertificate = creds.TLSClientConfig("").GetClientCertificate
	}
	n.slice.client = &http.Client{Transport: streamTransport(tlsConfig)}
	return n.slice.run(ctx)
}
