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
	// renewPatience bounds one go at renewing, over all servers.
	renewPatience = 15 * time.Second
	// renewRest is the least time between two renewals, should a server issue
	// certificates that are due at once.
	renewRest = time.Minute
	// expiredLook is how often a node whose certificate expired looks for a new
	// one on disk.
	expiredLook = time.Minute
	// renewLook is how often the clock is compared with the due time. A timer set
	// for months does not count the time that a machine was suspended.
	renewLook = time.Hour
)

// retryAfter returns how long a node waits after a go that failed, with jitter:
// about an hour while there are months left, more and more often towards the
// end.
func retryAfter(left time.Duration) time.Duration {
	return jitter(min(max(left/200, 10*time.Second), time.Hour))
}

// renewalDue returns when a certificate is to be renewed: at two thirds of its
// life, less a share of up to a twentieth that its own bytes decide, so that
// nodes made in one minute do not all come back in one minute.
func renewalDue(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	sum := sha256.Sum256(cert.Raw)
	share := float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
	return cert.NotBefore.Add(life*2/3 - time.Duration(share*float64(life/20)))
}

// RunRenewal keeps the credentials from expiring until ctx ends, and returns
// ctx's error. A failure is logged and tried again. A certificate that expired
// all the same is logged once; from then on only files replaced by somebody else
// help, and are waited for: a node that cannot prove who it is any more still
// serves the endpoints it knows.
func (c *Credentials) RunRenewal(ctx context.Context, client *Client) error {
	var expired *x509.Certificate // the one whose end has been logged
	for {
		cert, now := c.Current().Leaf, time.Now()
		wait := min(renewalDue(cert).Sub(now), renewLook)
		switch {
		case now.After(cert.NotAfter):
			if expired != cert {
				expired = cert
				c.log.Error("certificate has expired and cannot be renewed; enrol this node again with a new token",
					"identity", c.id, "notAfter", cert.NotAfter, "file", c.state.cert())
			}
			wait = jitter(expiredLook)
		case wait <= 0:
			wait = renewRest
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

// renew gets one new certificate. Wherever it is cut short, the files hold
// a usable pair, and the next go takes up the key that this one made.
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
	ctx, cancel := context.WithTimeoutCause(ctx, renewPatience, fmt.Errorf("no certificate within %s", renewPatience))
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
