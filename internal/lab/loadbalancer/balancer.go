// Package loadbalancer is the lab's stand-in for a cloud's network load
// balancer: it takes TCP connections, passes each to one target, and asks the
// targets for their health.
//
// It behaves as those balancers do, their faults included, because the lab is
// there to show what a cluster suffers behind one:
//
//   - a connection goes to a healthy target, in turn. When that target does not
//     answer the connection is lost: no other target is tried;
//   - when no target is healthy all of them get connections (fail open);
//   - a new target has to pass its checks before it is healthy;
//   - a connection to a target that becomes unhealthy stays as it is. One to a
//     target that is taken off the list is reset.
//
// It is not the balancer that runs on nodes (package balance does better than
// this), and not the whole of any cloud's: no TLS, no UDP, no proxy protocol,
// no zones, no idle time-out, no delay on (de)registration, and the targets see
// the balancer's address instead of the client's.
//
// The balancer runs as a process of its own. Its settings are a JSON file that
// it follows while it runs, see [WriteSettings]. What it does is answered over
// a unix socket, see [ReadStatus]: an answer comes from the living process and
// is of that moment, whereas a status file can be a dead process's last words;
// and a unix socket is reached from outside the network namespace that the
// balancer may be in.
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

// pollInterval is how often the settings file is looked at. It is read whole
// every time: a few KiB cost less than reasons why a time stamp did not change.
const pollInterval = 100 * time.Millisecond

// Config says how to run a balancer.
type Config struct {
	// SettingsFile is the JSON of a [Settings]. It has to be readable and valid
	// at the start. A version that is not, later, is reported in the status and
	// otherwise ignored. Required.
	SettingsFile string
	// StatusSocket is the path of the unix socket that answers with the status,
	// at most about 100 bytes. A dead predecessor's is replaced. Required.
	StatusSocket string
	// Log receives changes of settings and of targets' health. Nil discards.
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

// Run runs a balancer until ctx ends. Then it closes its listeners, resets its
// connections and returns nil. It returns an error when it cannot begin.
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
	defer b.work.Wait()
	defer cancel()
	if err := b.apply(ctx, settings); err != nil {
		return fmt.Errorf("load balancer: %s: %w", cfg.SettingsFile, err)
	}
	b.log.Info("load balancer settings applied", "revision", settings.Revision)
	status, err := listenStatus(ctx, cfg.StatusSocket)
	if err != nil {
		return fmt.Errorf("load balancer: %w", err)
	}
	b.work.Go(func() { b.follow(ctx, text) })
	return serveStatus(ctx, status, b.status)
}

// balancer is a running load balancer.
type balancer struct {
	cfg  Config
	log  *slog.Logger
	work sync.WaitGroup // every goroutine of the balancer; all end with Run's context

	mu          sync.Mutex // guards what follows
	revision    string
	settingsErr error // why the file as it is now is not applied, or nil
	listeners   []*listener
}

// follow applies the settings file whenever it changes. A version that cannot
// be applied is tried again, since the reason may pass: a port that is still in
// use, for one.
func (b *balancer) follow(ctx context.Context, applied []byte) {
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
			b.report(nil)
			continue
		}
		var settings Settings
		if err == nil {
			settings, err = parseSettings(text)
		}
		if err == nil {
			err = b.apply(ctx, settings)
		}
		b.report(err)
		if err == nil {
			applied = text
			b.log.Info("load balancer settings applied", "revision", settings.Revision)
		}
	}
}

// report notes why the settings file is not applied, and logs it once.
func (b *balancer) report(err error) {
	b.mu.Lock()
	was := b.settingsErr
	b.settingsErr = err
	b.mu.Unlock()
	if err != nil && (was == nil || was.Error() != err.Error()) {
		b.log.Warn("load balancer settings not applied; the former ones stay",
			"file", b.cfg.SettingsFile, "reason", err)
	}
}

// apply changes the balancer to the settings: either to all of them, or, with
// an error, to none.
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
		l.update(&b.work, settings.Listeners[i].Targets, checks[i])
		if current[l.name] == l {
			delete(current, l.name)
		}
	}
	for _, l := range opened {
		b.work.Go(func() { l.serve(&b.work) })
	}
	for _, l := range current {
		l.close()
	}
	b.listeners, b.revision, b.settingsErr = next, settings.Revision, nil
	return nil
}
