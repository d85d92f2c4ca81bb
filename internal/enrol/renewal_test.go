package enrol

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const day = 24 * time.Hour

// renewing runs the renewal of a worker's credentials, the first of which are
// good for life, in the background of a bubble, and returns them and a function that ends it.
func renewing(t *testing.T, n *testNode, life time.Duration, client *Client, logs *logBuffer) (*Credentials, func()) {
	t.Helper()
	dir := t.TempDir()
	writeState(t, dir, n.ca, certFor(t, n.ca, worker("n1"), IssueOptions{Lifetime: life}))
	creds, err := LoadCredentials(dir, worker("n1"), logs.logger())
	if err != nil {
		t.Fatal(err)
	}
	return creds, runRenewal(t, creds, client)
}

func runRenewal(t *testing.T, creds *Credentials, client *Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- creds.RunRenewal(ctx, client) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("RunRenewal: got %v, want the context's end", err)
		}
	}
}

func TestRenewalIsDueNearTwoThirds(t *testing.T) {
	ca := testCA(t, time.Now(), 0)
	dues := make(map[time.Time]bool)
	for range 50 {
		cert := certFor(t, ca, worker("n1"), IssueOptions{}).Leaf
		life := cert.NotAfter.Sub(cert.NotBefore)
		due := renewalDue(cert)
		if due != renewalDue(cert) {
			t.Fatal("one certificate has two due times")
		}
		if got := float64(due.Sub(cert.NotBefore)) / float64(life); got < 0.616 || got > 0.667 {
			t.Errorf("due at %.3f of the life, want between 0.617 and 0.667", got)
		}
		dues[due] = true
	}
	if len(dues) < 45 {
		t.Errorf("%d due times of 50 certificates: not spread", len(dues))
	}
}

func TestACertificateNeverExpiresWhileTheServerIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		n.serve(t, network.listen("cp1:1"))
		creds, stop := renewing(t, n, 365*day, pipeClient(t, network, n.ca, "cp1:1"), new(logBuffer))
		serials := make(map[string]bool)
		for range 2 * 365 {
			time.Sleep(day)
			leaf := creds.Current().Leaf
			if left := time.Until(leaf.NotAfter); left < 365*day*3/10 {
				t.Fatalf("%s left of the certificate", left)
			}
			serials[leaf.SerialNumber.String()] = true
		}
		if got := len(serials); got < 3 || got > 5 {
			t.Errorf("%d certificates in two years, want about 4", got)
		}
		stop()
	})
}

func TestRetriesComeMoreOftenTowardsTheEnd(t *testing.T) {
	tests := []struct{ left, least, most time.Duration }{
		{120 * day, 30 * time.Minute, time.Hour},
		{day, 3 * time.Minute, 8 * time.Minute},
		{time.Hour, 9 * time.Second, 18 * time.Second},
		{time.Second, 5 * time.Second, 10 * time.Second},
	}
	for _, tt := range tests {
		for range 100 {
			if got := retryAfter(tt.left); got < tt.least || got > tt.most {
				t.Fatalf("with %s left: again after %s, want between %s and %s", tt.left, got, tt.least, tt.most)
			}
		}
	}
}

func TestRenewalOutlivesAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		var logs logBuffer
		creds, stop := renewing(t, n, day, pipeClient(t, network, n.ca, "cp1:1"), &logs)
		first := creds.Current().Leaf
		time.Sleep(20 * time.Hour) // the server is away when renewal falls due
		if !creds.Current().Leaf.Equal(first) {
			t.Fatal("renewed at a server that is away")
		}
		if !strings.Contains(logs.String(), "certificate not renewed") {
			t.Error("nothing was logged")
		}
		n.serve(t, network.listen("cp1:1"))
		time.Sleep(2 * time.Minute)
		if creds.Current().Leaf.Equal(first) {
			t.Error("not renewed two minutes after the server came back")
		}
		stop()
	})
}

func TestAnExpiredCertificateIsSaidOnceAndAReplacementTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		network := newPipeNet()
		var logs logBuffer
		creds, stop := renewing(t, n, time.Hour, pipeClient(t, network, n.ca, "cp1:1"), &logs)
		time.Sleep(2 * time.Hour)
		attempts := len(network.calls())
		if attempts == 0 {
			t.Error("no attempt to renew before the end")
		}
		time.Sleep(day)
		if got := len(network.calls()); got != attempts {
			t.Errorf("%d attempts to renew with an expired certificate", got-attempts)
		}
		if got := strings.Count(logs.String(), "certificate has expired and cannot be renewed"); got != 1 {
			t.Errorf("said %d times, want once", got)
		}
		// Somebody enrols the node anew; the daemon goes on with that.
		writeState(t, string(creds.state), n.ca, certFor(t, n.ca, worker("n1"), IssueOptions{}))
		time.Sleep(2 * expiredPoll)
		if left := time.Until(creds.Current().Leaf.NotAfter); left < 0 {
			t.Error("the replacement was not taken over")
		}
		n.serve(t, network.listen("cp1:1"))
		time.Sleep(300 * day)
		if left := time.Until(creds.Current().Leaf.NotAfter); left < 100*day {
			t.Errorf("%s left: renewal did not go on", left)
		}
		stop()
	})
}

func TestAControlPlaneNodeRenewsAtItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		writeState(t, string(n.creds.state), n.ca, certFor(t, n.ca, controlPlane("cp1"), serverNames(n.creds.Current().Leaf)))
		n.creds.reloadNow()
		first := n.creds.Current().Leaf
		network := newPipeNet()
		n.serve(t, network.listen("cp1:1"))
		stop := runRenewal(t, n.creds, pipeClient(t, network, n.ca, "cp1:1"))
		time.Sleep(400 * day)
		leaf := n.creds.Current().Leaf
		if leaf.Equal(first) || time.Until(leaf.NotAfter) < 100*day {
			t.Errorf("after 400 days: certificate until %s", leaf.NotAfter)
		}
		if err := verifyServer(leaf, n.ca.Certificate, ServerName(testCluster)); err != nil {
			t.Error(err)
		}
		stop()
	})
}

func TestNothingIsAskedThatTheAuthorityCannotGive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		n.ca = testCA(t, time.Now(), 30*day) // a worker's certificate ends with it
		network := newPipeNet()
		var logs logBuffer
		creds, stop := renewing(t, n, 365*day, pipeClient(t, network, n.ca, "cp1:1"), &logs)
		time.Sleep(29 * day)
		if got := len(network.calls()); got != 0 {
			t.Errorf("%d requests", got)
		}
		if !strings.Contains(logs.String(), "the cluster's authority expires at "+creds.CA().NotAfter.Format(time.RFC3339)) {
			t.Errorf("the log does not say why: %.500s", logs.String())
		}
		stop()
	})
}

func TestCertificatesThatAreDueAtOnceMakeNoHotLoop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		cfg, err := ServerTLS(n.creds)
		if err != nil {
			t.Fatal(err)
		}
		n.server.cfg.Lifetime = 2 * time.Minute // which NewServer would refuse
		network := newPipeNet()
		serveHTTP(t, network.listen("cp1:1"), &http.Server{Handler: n.server, TLSConfig: cfg})
		dir := t.TempDir()
		writeState(t, dir, n.ca, certFor(t, n.ca, worker("n1"), IssueOptions{Lifetime: 2 * time.Minute}))
		creds, err := LoadCredentials(dir, worker("n1"), nil)
		if err != nil {
			t.Fatal(err)
		}
		stop := runRenewal(t, creds, pipeClient(t, network, n.ca, "cp1:1"))
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if got := len(network.calls()); got > 21 || got < 10 {
			t.Errorf("%d renewals in twenty minutes, want about one a minute", got)
		}
		stop()
	})
}
