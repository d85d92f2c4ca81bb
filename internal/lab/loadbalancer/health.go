package loadbalancer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// State is the health of a target according to the balancer.
type State string

// The states of a target.
const (
	Initial   State = "initial" // not checked often enough yet; gets connections only by fail open
	Healthy   State = "healthy"
	Unhealthy State = "unhealthy"
)

// health is the health of one target.
type health struct {
	state  State
	since  time.Time // when state last changed
	reason string    // the last failure, "" after a success
	passed int       // checks passed in a row
	failed int       // checks failed in a row
}

// next returns the health after one more check.
func (h health) next(err error, now time.Time, healthyThreshold, unhealthyThreshold int) health {
	if err == nil {
		h.passed, h.failed, h.reason = h.passed+1, 0, ""
	} else {
		h.passed, h.failed, h.reason = 0, h.failed+1, err.Error()
	}
	switch {
	case h.state != Healthy && h.passed >= healthyThreshold:
		h.state, h.since = Healthy, now
	case h.state != Unhealthy && h.failed >= unhealthyThreshold:
		h.state, h.since = Unhealthy, now
	}
	return h
}

// check is a prepared health check. It is immutable.
type check struct {
	spec               HealthCheck
	interval, timeout  time.Duration
	healthyThreshold   int
	unhealthyThreshold int
	client             *http.Client // nil for TCP
}

// newCheck prepares a health check; its settings have been validated.
func newCheck(spec HealthCheck, settings Settings) (*check, error) {
	c := &check{
		spec:               spec,
		interval:           time.Duration(settings.Interval),
		timeout:            time.Duration(settings.Timeout),
		healthyThreshold:   settings.HealthyThreshold,
		unhealthyThreshold: settings.UnhealthyThreshold,
	}
	if spec.Protocol != HTTPS {
		return c, nil
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: spec.ServerName, InsecureSkipVerify: spec.Insecure}
	if !spec.Insecure {
		pem, err := os.ReadFile(spec.CAFile)
		if err != nil {
			return nil, err
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", spec.CAFile)
		}
	}
	c.client = &http.Client{
		// A kept connection would not show whether new ones work.
		Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return c, nil
}

// run performs the check of a target once.
func (c *check) run(ctx context.Context, target netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.spec.Port != 0 {
		target = netip.AddrPortFrom(target.Addr(), c.spec.Port)
	}
	if c.client == nil {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", target.String())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target.String()+c.spec.Path, nil)
	if err != nil {
		return err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 100))
	if err != nil {
		return err
	}
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s: %q", c.spec.Path, response.Status, text)
	}
	return nil
}
