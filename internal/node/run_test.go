package node

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// systemd kills a service that has not started in time, which helps nobody where the
// network is what is missing.
func TestADaemonThatKnowsNothingCountsAsStartedInTime(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known time.Duration // 0 is never
		want  time.Duration // of READY
	}{
		{"an address is known soon", time.Second, time.Second},
		{"an address is known late", time.Minute, readyAtLatest},
		{"no address is ever known", 0, readyAtLatest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var said []string
				at := make(map[string]time.Duration)
				known := make(chan struct{})
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					Announce(ctx, func(state string) {
						said = append(said, state)
						at[state] = time.Since(began)
					}, slog.New(slog.DiscardHandler), func() (bool, <-chan struct{}) {
						select {
						case <-known:
							return true, nil
						default:
							return false, known
						}
					})
				}()
				if tt.known > 0 {
					time.Sleep(tt.known)
					close(known)
				}
				time.Sleep(2 * time.Minute)
				stop()
				<-done
				if want := []string{"READY=1", "STOPPING=1"}; !slices.Equal(said, want) {
					t.Errorf("said %q, want %q", said, want)
				}
				if at["READY=1"] != tt.want {
					t.Errorf("ready after %v, want %v", at["READY=1"], tt.want)
				}
			})
		})
	}
}

// A token that is missing is missing every ten seconds; it is said once, and in the status.
func TestANodeThatCannotEnrolSaysWhyOnce(t *testing.T) {
	a := newAwaiting(t)
	a.remove("token")
	var log bytes.Buffer
	n, err := New(a.load(), Options{Program: "muster-agent", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	n.remember()
	client, err := n.enrolClient()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 10*enrolPause)
		defer stop()
		if creds := n.enrol(ctx, client); creds != nil {
			t.Error("enrolled without a token")
		}
	})
	if got := strings.Count(log.String(), "no identity"); got != 1 {
		t.Errorf("%d lines about it, want 1:\n%s", got, log.String())
	}
	if got := strings.Join(n.Report().Problems, "\n"); !strings.Contains(got, "not enrolled yet: ") || !strings.Contains(got, "no enrolment token at ") {
		t.Errorf("problems are %q", got)
	}
}
