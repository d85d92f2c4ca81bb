package enrol

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// renewTimeout bounds one attempt to renew, over all servers.
	renewTimeout = 15 * time.Second
	// minRenewInterval is the least time between two renewals, in case a server issues certificates that are due at
	// once.
	minRenewInterval = time.Minute
	// expiredPoll is how often a node with an expired certificate looks for a new one on disk.
	expiredPoll = time.Minute
	// renewPoll is how often the due time is compared with the clock: a timer set for months does not count the time
	// that a machine was suspended.
	renewPoll = time.Hour
)

// retryAfter returns how long to wait after a failed renewal, with jitter: about an hour while months are left, less
// and less towards the end.
func retryAfter(left time.Duration) time.Duration {
	return jitter(min(max(left/200, 10*time.Second), time.Hour))
}

// renewalDue returns when to renew a certificate: at two thirds of its lifetime, minus up to a twentieth derived from
// its bytes, so that nodes created in one minute do not all renew in one minute.
func renewalDue(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	sum := sha256.Sum256(cert.Raw)
	share := float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
	return cert.NotBefore.Add(life*2/3 - time.Duration(share*float64(life/20)))
}

// RunRenewal renews the credentials before they expire, until ctx ends, and returns ctx's error. Failures are logged
// and retried. A certificate that expired all the same is logged once; from then on RunRenewal waits for another
// process to replace the files, and does not give up: a node without a valid certificate still serves the endpoints
// that it knows.
func (c *Credentials) RunRenewal(ctx context.Context, client *Client) error {
	var expired *x509.Certificate // the one whose expiry has been logged
	for {
		cert, now := c.Current().Leaf, time.Now()
		wait := min(renewalDue(cert).Sub(now), renewPoll)
		switch {
		case now.After(cert.NotAfter):
			if expired != cert {
				expired = cert
				c.log.Error("certificate has expired and cannot be renewed; enrol this node again with a new token",
					"identity", c.id, "notAfter", cert.NotAfter, "file", c.state.cert())
			}
			wait = jitter(expiredPoll)
		case wait <= 0:
			wait = minRenewInterval
			if err := c.renew(ctx, client); err != nil && ctx.Err() == nil {
				wait = retryAfter(cert.NotAfter.Sub(now))
				c.log.Warn("certificate not renewed", "identity", c.id, "notAfter", cert.NotAfter, "retry", wait, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// renew gets one new certificate. Wherever it is interrupted, the files hold a usable pair, and the next attempt uses
// the key that this one created.
func (c *Credentials) renew(ctx context.Context, client *Client) error {
	if end := c.ca.NotAfter; !c.Current().Leaf.NotAfter.Before(end) {
		return fmt.Errorf("renew %s: the cluster's authority expires at %s and so does every certificate; the cluster needs a new one", c.id, end.Format(time.RFC3339))
	}
	if err := c.state.promote(); err != nil {
		return fmt.Errorf("renew %s: %w", c.id, err)
	}
	key, err := c.state.ensureKey(c.state.nextKey())
	if err != nil {
		return fmt.Errorf("renew %s: %w", c.id, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, renewTimeout, fmt.Errorf("no certificate within %s", renewTimeout))
	defer cancel()
	issued, err := client.Renew(ctx, c, key)
	if err != nil {
		return err
	}
	if err := c.state.writeRenewed(issued.Certificate); err != nil {
		return fmt.Errorf("renew %s: %w", c.id, err)
	}
	c.reloadNow()
	return nil
}
