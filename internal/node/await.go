package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/secretfile"
)

// CheckAwaited reports files that are missing or no good, and that the daemon waits for
// instead of refusing to start, since what it was configured with may serve until they
// come. What enrolment writes is not among them, but the token for it is.
func (c Config) CheckAwaited() error {
	var errs []error
	learns := c.enrols()
	shared := false // whether a service's servers prove themselves by the node's CA
	for i, s := range c.Services {
		if s.Certificate != "" {
			if _, err := readKeyPair(s.Certificate, s.Key); err != nil {
				errs = append(errs, fmt.Errorf("%s: certificate %w; until it is there, servers are asked anonymously", s.at(i), err))
			}
		}
		if s.CA == "" {
			shared = true
			continue
		}
		if learns && s.CA == c.learntCA() {
			continue
		}
		if _, err := readRoots(s.CA); err != nil {
			errs = append(errs, fmt.Errorf("%s: ca %w; put the CA there that its servers' certificates chain to, for until then they are used unchecked", s.at(i), err))
		}
	}
	switch path := c.caFile(); {
	case path != "" && (shared || c.CA != ""):
		if _, err := readRoots(path); err != nil {
			errs = append(errs, fmt.Errorf("ca %w; put the CA there that the servers' certificates chain to, for until then they are used unchecked", err))
		}
	case !shared:
	case c.CAPin != "" && !learns:
		errs = append(errs, errors.New("caPin: without discovery.servers the node enrols nowhere and never learns its CA; give the CA's file as ca, or discovery.servers"))
	}
	if learns {
		errs = append(errs, c.checkToken())
	}
	if s := c.Slice; s != nil {
		errs = append(errs, s.check())
		if s.Certificate == "" && s.TokenFile == "" && !learns && !fileExists(filepath.Join(c.StateDir, "node.crt")) {
			errs = append(errs, errors.New("endpointSlice: neither certificate nor tokenFile, and the node has no identity of its own; API servers show their EndpointSlices to nobody whom they do not know, so give one of them"))
		}
	}
	return errors.Join(errs...)
}

// awaitsCA reports whether the node can do its work before its CA's certificate is there:
// a worker that does not gossip uses its servers unchecked until then.
func (c Config) awaitsCA() bool { return c.Role == identity.Worker && c.Overlay == nil }

// check reports why the slice could not be read now.
func (s *Slice) check() error {
	if s.Certificate != "" {
		_, err := s.keyPair()
		return err
	}
	if s.TokenFile != "" {
		if _, err := os.ReadFile(s.TokenFile); err != nil {
			return fmt.Errorf("endpointSlice.tokenFile %s: %w", s.TokenFile, pathless(err))
		}
	}
	return nil
}

func (s *Slice) keyPair() (*tls.Certificate, error) {
	pair, err := readKeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, fmt.Errorf("endpointSlice.certificate %w", err)
	}
	return pair, nil
}

// readKeyPair reads a client certificate. Errors begin with a path.
func readKeyPair(certificate, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if failed := (*os.PathError)(nil); errors.As(err, &failed) {
		return nil, fmt.Errorf("%s: %w", failed.Path, failed.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certificate, err)
	}
	return &pair, nil
}

// clientCertificate is what the checks of a service present. One that cannot be read is
// no reason to take a server for dead: it is asked anonymously, and the status says so.
func (s *service) clientCertificate(log *slog.Logger) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := readKeyPair(s.cfg.Certificate, s.cfg.Key)
		if err != nil {
			why := err.Error()
			if was := s.anonymous.Swap(&why); was == nil || *was != why {
				log.Warn("servers are asked anonymously", "service", s.cfg.Name, "reason", why)
			}
			return new(tls.Certificate), nil
		}
		if s.anonymous.Swap(nil) != nil {
			log.Info("servers are asked with a certificate from now on", "service", s.cfg.Name)
		}
		return pair, nil
	}
}

// checkToken reports why a node without an identity cannot enrol.
func (c Config) checkToken() error {
	if fileExists(filepath.Join(c.StateDir, "node.crt")) {
		return nil
	}
	path := c.Discovery.TokenFile
	if path == "" {
		return fmt.Errorf("discovery.tokenFile: not set, and no identity in %s; name the file with a token from muster token create", c.StateDir)
	}
	data, err := secretfile.Read(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discovery.tokenFile %s: no such file, and no identity in %s; make a token with muster token create on a control-plane node", path, c.StateDir)
	}
	if err != nil {
		return fmt.Errorf("discovery.tokenFile: %w", err)
	}
	if _, err := enrol.ParseToken(string(data)); err != nil {
		return fmt.Errorf("discovery.tokenFile %s: %w; make one with muster token create on a control-plane node", path, err)
	}
	return nil
}

// readRoots reads a CA's certificate. Errors begin with the path.
func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, pathless(err))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", path)
	}
	return roots, nil
}

// rootsEvery is the time between two looks at a CA's file that is not there yet.
const rootsEvery = time.Second

// awaitRoots returns how the servers of a service are checked, as soon as their CA can be
// read; ok is false when ctx ended first. Until then nothing can be checked, and
// everything that the node was configured with serves unchecked. The file may well come
// after the daemon: kubeadm writes it when the node joins, perhaps by this very daemon.
func (n *Node) awaitRoots(ctx context.Context, s *service) (cfg health.Config, ok bool) {
	if n.cfg.enrols() && (s.cfg.CA == "" || s.cfg.CA == n.cfg.learntCA()) {
		select {
		case <-ctx.Done():
			return cfg, false
		case <-n.trusted:
		}
	}
	tick := time.NewTicker(rootsEvery)
	defer tick.Stop()
	for {
		cfg, err := n.checkConfig(s.cfg)
		if err == nil {
			if s.unchecked.Swap(nil) != nil {
				n.log.Info("servers are checked from now on", "service", s.cfg.Name)
			}
			if s.cfg.Certificate != "" {
				cfg.ClientCertificate = s.clientCertificate(n.log)
			}
			return cfg, true
		}
		why := err.Error()
		if was := s.unchecked.Swap(&why); was == nil || *was != why {
			n.log.Warn("servers are used unchecked", "service", s.cfg.Name, "reason", why)
		}
		select {
		case <-ctx.Done():
			return cfg, false
		case <-tick.C:
		}
	}
}

func (n *Node) checkConfig(s Service) (health.Config, error) {
	path := s.CA
	if path == "" {
		path = n.cfg.caFile()
	}
	if path == "" {
		return health.Config{}, errors.New("no CA, and the node enrols nowhere; give ca or discovery.servers")
	}
	roots, err := readRoots(path)
	if err != nil {
		return health.Config{}, fmt.Errorf("ca %w", err)
	}
	return health.Config{
		ServerName: s.ServerName,
		Roots:      roots,
		Path:       s.Check,
		Logger:     n.log.With("service", s.Name),
	}, nil
}
