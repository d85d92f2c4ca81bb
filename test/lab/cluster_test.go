package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/probe"
)

// run runs a lab during a test. It sets the programs, the cluster and the directory in the configuration.
func run(t *testing.T, spec string, cfg lab.Config, use func(context.Context, *lab.Lab) error) {
	t.Helper()
	var err error
	if cfg.Programs, err = lab.ProgramsIn(bin(t)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Cluster, err = cluster.Parse(spec, data); err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: its paths are too long for Unix sockets.
	if cfg.Dir, err = os.MkdirTemp("", "muster-test-"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("logs kept in %s", cfg.Dir)
			return
		}
		os.RemoveAll(cfg.Dir)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := lab.Run(ctx, cfg, use); err != nil {
		t.Error(err)
	}
}

// pollUntil checks every 50 ms until the result is true, and returns how long it took.
func pollUntil(ctx context.Context, limit time.Duration, check func() (bool, error)) (time.Duration, error) {
	began := time.Now()
	var last error
	for time.Since(began) < limit {
		ok, err := check()
		if ok {
			return time.Since(began), nil
		}
		last = err
		select {
		case <-ctx.Done():
			return time.Since(began), ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return time.Since(began), fmt.Errorf("not within %v: %w", limit, last)
}

// serves reports whether a worker's daemon serves an API address.
func serves(r node.Report, addr netip.AddrPort) bool {
	for _, e := range r.Services[0].Serving {
		if e.Addr == addr {
			return true
		}
	}
	return false
}

// A killed control-plane node is removed from every worker's endpoint set within 3 s, with gossip and with none, and no new
// connection through a local balancer fails meanwhile.
func TestLabAKilledControlPlaneNodeIsOutOfEverySetInThreeSeconds(t *testing.T) {
	for start, program := range map[cluster.Topology]lab.Program{cluster.None: lab.Agent, cluster.Gossip: lab.Peer} {
		t.Run(string(start), func(t *testing.T) {
			run(t, "testdata/three.yaml", lab.Config{Start: start}, func(ctx context.Context, l *lab.Lab) error {
				victim := l.Layout().ControlPlane()[0]
				addr := netip.AddrPortFrom(victim.Addr, lab.APIPort)
				workers := l.Layout().Workers()
				everyWorker := func(want bool) func() (bool, error) {
					return func() (bool, error) {
						for _, w := range workers {
							r, err := l.Report(ctx, w.Name, program)
							if err != nil {
								return false, err
							}
							if serves(r, addr) != want {
								return false, fmt.Errorf("%s serves %s: %v", w.Name, addr, !want)
							}
						}
						return true, nil
					}
				}
				if _, err := pollUntil(ctx, 20*time.Second, everyWorker(true)); err != nil {
					return err
				}
				before := failures(t, l)
				began := time.Now()
				if err := l.PowerOff(ctx, victim.Name); err != nil {
					return err
				}
				struck := time.Now()
				took, err := pollUntil(ctx, 10*time.Second, everyWorker(false))
				if err != nil {
					return err
				}
				t.Logf("%s: out of %d endpoint sets after %v", start, len(workers), took.Round(time.Millisecond))
				if took > 3*time.Second {
					t.Errorf("out of every worker's endpoint set after %v; want at most 3 s", took)
				}
				// Some more probes after its removal.
				for _, w := range workers {
					if _, err := pollUntil(ctx, 10*time.Second, consecutive(l, w.Name, 20)); err != nil {
						return err
					}
				}
				for _, s := range failures(t, l)[len(before):] {
					underWay := s.Began.Before(struck) && s.Began.Add(s.Took).After(began)
					if s.Path == probe.LocalBalancer && !underWay {
						t.Errorf("new connection through a local balancer failed at %v after the kill: %s", s.Began.Sub(began), s.Err)
					}
				}
				return nil
			})
		})
	}
}

func failures(t *testing.T, l *lab.Lab) (all []probe.Sample) {
	t.Helper()
	for _, w := range l.Layout().Workers() {
		o, err := l.Observe(w.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Failures...)
	}
	return all
}

func consecutive(l *lab.Lab, worker string, n int) func() (bool, error) {
	return func() (bool, error) {
		o, err := l.Observe(worker)
		if err != nil {
			return false, err
		}
		return o.Streak[probe.ByName] >= n, fmt.Errorf("%s: %d probes in a row", worker, o.Streak[probe.ByName])
	}
}

// idleCeiling bounds an idle agent's resident memory.
const idleCeiling = 20 << 20

func TestLabAnIdleAgentIsSmall(t *testing.T) {
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.None}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0].Name
		if _, err := pollUntil(ctx, 20*time.Second, consecutive(l, worker, 30)); err != nil {
			return err
		}
		running, err := l.Running(worker)
		if err != nil {
			return err
		}
		for _, r := range running {
			if r.Program != lab.Agent {
				continue
			}
			t.Logf("muster-agent: %.1f MiB resident, at most %.1f", float64(r.Usage.RSS)/(1<<20), float64(r.Usage.PeakRSS)/(1<<20))
			if r.Usage.RSS > idleCeiling {
				t.Errorf("%d bytes resident; at most %d", r.Usage.RSS, idleCeiling)
			}
			return nil
		}
		return fmt.Errorf("no agent runs on %s", worker)
	})
}

// A worker that was off while every control-plane node was replaced recovers through the load balancer.
func TestLabAWorkerComesBackAfterEveryControlPlaneNodeMoved(t *testing.T) {
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.None}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0].Name
		if _, err := pollUntil(ctx, 20*time.Second, consecutive(l, worker, 10)); err != nil {
			return err
		}
		if err := l.PowerOff(ctx, worker); err != nil {
			return err
		}
		for _, n := range l.Layout().ControlPlane() {
			if err := l.ChangeAddress(ctx, n.Name); err != nil {
				return err
			}
		}
		if err := l.PowerOnAsBefore(ctx, worker); err != nil {
			return err
		}
		took, err := pollUntil(ctx, 20*time.Second, func() (bool, error) {
			r, err := l.Report(ctx, worker, lab.Agent)
			if err != nil {
				return false, err
			}
			for _, n := range l.Layout().ControlPlane() {
				if !serves(r, netip.AddrPortFrom(n.Addr, lab.APIPort)) {
					return false, fmt.Errorf("does not serve %s", n.Addr)
				}
			}
			return len(r.Problems) == 0, fmt.Errorf("%q", r.Problems)
		})
		t.Logf("all three new addresses known after %v", took.Round(time.Millisecond))
		return err
	})
}

// Ordinary programs on a node resolve through the block, and a bind mount of the file sees changes: the inode stays.
func TestLabOrdinaryProgramsResolveThroughTheBlock(t *testing.T) {
	bin(t)
	needRoot(t)
	run(t, "testdata/three.yaml", lab.Config{Start: cluster.None, Netns: true}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0].Name
		if _, err := pollUntil(ctx, 20*time.Second, consecutive(l, worker, 5)); err != nil {
			return err
		}
		getent := func() (string, error) {
			argv, err := l.Command(worker, "getent", "ahosts", "api.internal.three.k8s.local")
			if err != nil {
				return "", err
			}
			out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
			return string(out), err
		}
		victim := l.Layout().ControlPlane()[0]
		out, err := getent()
		if err != nil || !strings.Contains(out, victim.Addr.String()) {
			return fmt.Errorf("getent: %v; want %s in:\n%s", err, victim.Addr, out)
		}
		if curl, err := exec.LookPath("curl"); err == nil {
			argv, err := l.Command(worker, curl, "-sS", "--max-time", "5", "--cacert", filepath.Join(l.Dir(), "pki", "ca.crt"),
				fmt.Sprintf("https://api.internal.three.k8s.local:%d/readyz", lab.APIPort))
			if err != nil {
				return err
			}
			if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil || string(out) != "ok" {
				return fmt.Errorf("curl: %v: %s", err, out)
			}
		}
		if err := l.PowerOff(ctx, victim.Name); err != nil {
			return err
		}
		took, err := pollUntil(ctx, 10*time.Second, func() (bool, error) {
			out, err := getent()
			return err == nil && !strings.Contains(out, victim.Addr.String()), err
		})
		t.Logf("a killed server is out of getent after %v", took.Round(time.Millisecond))
		return err
	})
}

func TestLabARehearsalInNetworkNamespaces(t *testing.T) {
	bin(t)
	needRoot(t)
	r, code := rehearse(t, "-f", "testdata/three.yaml", "--netns")
	if code != 0 || r.Lost != 0 {
		t.Errorf("exit %d, %d lost; want 0, 0\n%s", code, r.Lost, details(r))
	}
}
