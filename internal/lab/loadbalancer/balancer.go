// Package loadbalancer is the lab's replacement for a cloud's network load balancer: it accepts TCP connections,
// forwards each to one target, and checks the targets' health.
//
// It behaves as those balancers do, including their weaknesses, because the lab exists to show what they do to a
// cluster:
//
//   - a connection goes to a healthy target, in turn. If that target does not answer the connection is lost: no other
//     target is tried;
//   - if no target is healthy all of them get connections (fail open);
//   - a new target must pass its checks before it is healthy;
//   - a connection to a target that becomes unhealthy is kept. One to a target that is removed from the list is
//     reset.
//
// It is not the balancer that runs on nodes (package balance does better than this), and does not have all that
// clouds have: no TLS, no UDP, no proxy protocol, no zones, no idle timeout, no delay on (de)registration, and the
// targets see the balancer's address instead of the client's.
//
// The balancer runs as a separate process. Its settings are a JSON file that it watches, see [WriteSettings]. Its
// status is served over a unix socket, see [ReadStatus]: a response comes from the live process and is current,
// whereas a status file can be that of a dead process; and a unix socket is reachable from outside the network
// namespace that the balancer may be in.
package loadbalancer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// pollInterval is how often the settings file is read. Reading the few KiB each time is simpler than relying on time
// stamps.
const pollInterval = 100 * time.Millisecond

// Config configures a balancer.
type Config struct {
	// SettingsFile is the JSON of a [Settings]. It must be valid at the start. Later, an invalid version is reported
	// in the status and otherwise ignored. Required.
	SettingsFile string
	// StatusSocket is the path of the unix socket that serves the status, at most about 100 bytes. That of a dead
	// predecessor is replaced. Required.
	StatusSocket string
	// Log gets changes of settings and of targets' health. Nil discards.
	Log *slog.Logger
}

func (c *Config) validate() error {
	var faults []error
	if c.SettingsFile == "" {
		faults = append(faults, errors.New("no settings file"))
	}
	if c.StatusSocket == "" {
		faults = append(faults, errors.New("no status socket"))
	}
	return errors.Join(faults...)
}

// Run runs a balancer until ctx ends. Then it closes its listeners, resets its connections and returns nil. It
// returns an error if it cannot start.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	text, err := os.ReadFile(cfg.SettingsFile)
	if err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	settings, err := parseSettings(text)
	if err != nil {
		return fmt.Errorf("load balancer: %s: %w", cfg.SettingsFile, err)
	}

	b := &balancer{cfg: cfg, log: cfg.Log}
	ctx, cancel := context.WithCancel(ctx)
	defer b.goroutines.Wait()
	defer cancel()
	if err := b.apply(ctx, settings); err != nil {
		return fmt.Errorf("load balancer: %s: %w", cfg.SettingsFile, err)
	}
	b.log.Info("load balancer settings applied", "revision", settings.Revision)
	status, err := listenStatus(ctx, cfg.StatusSocket)
	if err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	b.goroutines.Go(func() { b.watchSettings(ctx, text) })
	return serveStatus(ctx, status, b.status)
}

// balancer is a running load balancer.
type balancer struct {
	cfg        Config
	log        *slog.Logger
	goroutines sync.WaitGroup // all goroutines of the balancer; they end with Run's context

	mu          sync.Mutex // guards the fields below
	revision    string
	settingsErr error // why the present file is not applied, or nil
	listeners   []*listener
}

// watchSettings applies the settings file whenever it changes. A version that cannot be applied is retried, because
// the reason may pass: a port that is still in use, for instance.
func (b *balancer) watchSettings(ctx context.Context, applied []byte) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		text, err := os.ReadFile(b.cfg.SettingsFile)
		if err == nil && bytes.Equal(text, applied) {
			b.setSettingsError(nil)
			continue
		}
		var settings Settings
		if err == nil {
			settings, err = parseSettings(text)
		}
		if err == nil {
			err = b.apply(ctx, settings)
		}
		b.setSettingsError(err)
		if err == nil {
			applied = text
			b.log.Info("load balancer settings applied", "revision", settings.Revision)
		}
	}
}

// setSettingsError records why the settings file is not applied, and logs it once.
func (b *balancer) setSettingsError(err error) {
	b.mu.Lock()
	was := b.settingsErr
	b.settingsErr = err
	b.mu.Unlock()
	if err != nil && (was == nil || was.Error() != err.Error()) {
		b.log.Warn("load balancer settings not applied; the former ones stay",
			"file", b.cfg.SettingsFile, "reason", err)
	}
}

// apply applies the settings: all of them or, with an error, none.
func (b *balancer) apply(ctx context.Context, settings Settings) error {
	checks := make([]*check, len(settings.Listeners))
	for i, wanted := range settings.Listeners {
		var err error
		if checks[i], err = newCheck(wanted.HealthCheck, settings); err != nil {
			return fmt.Errorf("listener %q: %w", wanted.Name, err)
		}
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	current := make(map[string]*listener)
	for _, l := range b.listeners {
		current[l.name] = l
	}
	next := make([]*listener, len(settings.Listeners))
	var opened []*listener
	for i, wanted := range settings.Listeners {
		if l := current[wanted.Name]; l != nil && l.wanted == wanted.Listen {
			next[i] = l
			continue
		}
		l, err := openListener(ctx, wanted, b.log)
		if err != nil {
			for _, l := range opened {
				l.close()
			}
			return fmt.Errorf("listener %q: %w", wanted.Name, err)
		}
		opened = append(opened, l)
		next[i] = l
	}

	// From here on nothing can fail.
	for i, l := range next {
		l.update(&b.goroutines, settings.Listeners[i].Targets, checks[i])
		if current[l.name] == l {
			delete(current, l.name)
		}
	}
	for _, l := range opened {
		b.goroutines.Go(func() { l.serve(&b.goroutines) })
	}
	for _, l := range current {
		l.close()
	}
	b.listeners, b.revision, b.settingsErr = next, settings.Revision, nil
	return nil
}
