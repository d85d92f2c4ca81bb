package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/report"
)

func TestLabAClusterOnKopssOverlaysLosesNobody(t *testing.T) {
	for _, tt := range []struct {
		overlay string // "" is what the spec says
		ports   int    // that a worker gossips on at first
	}{
		{"weave", 1},
		{"kops-memberlist", 2},
		{"", 3},
	} {
		t.Run("overlay "+tt.overlay, func(t *testing.T) {
			args := []string{"-f", "testdata/legacy.yaml"}
			if tt.overlay != "" {
				args = append(args, "--overlay", tt.overlay)
			} else {
				tt.overlay = "both"
			}
			r, code := rehearse(t, args...)
			if code != 0 || r.Verdict != report.Pass || r.Lost != 0 || r.Gossip != 0 {
				t.Fatalf("exit %d, verdict %s, %d lost, %d gossip; want 0, pass, 0, 0\n%s", code, r.Verdict, r.Lost, r.Gossip, details(r))
			}
			if got := r.Rehearsals[0].Overlay; got != tt.overlay {
				t.Errorf("the evidence says that it gossiped over %q, want %q", got, tt.overlay)
			}
			for _, w := range r.Rehearsals[0].PerNode {
				if len(w.GossipBefore.Ports) != tt.ports || w.GossipAfter.Any() {
					t.Errorf("%s gossips on %q before, %v after; want %d ports, none", w.Name, w.GossipBefore.Ports, w.GossipAfter, tt.ports)
				}
			}
		})
	}
}

func TestLabHybridLeavesKopssGossipToTheControlPlane(t *testing.T) {
	r, code := rehearse(t, "-f", "testdata/legacy.yaml", "--to", "hybrid", "--overlay", "weave")
	if code != 0 || r.Gossip != 0 {
		t.Errorf("exit %d, %d workers gossip; want 0, 0\n%s", code, r.Gossip, details(r))
	}
}

// kOps's gossip is detected while a legacy peer runs or any process listens on one of its ports, and not otherwise.
func TestLabKopssGossipIsSeen(t *testing.T) {
	run(t, "testdata/legacy.yaml", lab.Config{Start: cluster.Gossip, Overlay: lab.Both}, func(ctx context.Context, l *lab.Lab) error {
		worker := l.Layout().Workers()[0]
		gossips := func(when string, want bool, programs ...lab.Program) error {
			running, err := l.Running(worker.Name)
			if err != nil {
				return err
			}
			var found []lab.Program
			for _, r := range running {
				if r.Gossips() {
					found = append(found, r.Program)
				}
			}
			if (len(found) > 0) != want || !slices.Equal(found, programs) {
				t.Errorf("%s: %q gossip, want %q", when, found, programs)
			}
			return nil
		}
		if err := gossips("at first", true, lab.Peer); err != nil {
			return err
		}
		if err := l.StopPeer(ctx, worker.Name); err != nil {
			return err
		}
		if err := gossips("without a peer", false); err != nil {
			return err
		}
		for _, port := range []uint16{3993, 3998, 3999, 4000} {
			ln, err := net.Listen("tcp", netip.AddrPortFrom(worker.Addr, port).String())
			if err != nil {
				return err
			}
			err = gossips(fmt.Sprintf("with somebody on port %d", port), true, lab.Stranger)
			ln.Close()
			if err != nil {
				return err
			}
		}
		return gossips("without anybody", false)
	})
}

// With kOps's protocols a removed control-plane node disappears from every hosts block, and a new address appears, without
// intervention.
func TestLabLegacyHostsBlocksFollowTheControlPlane(t *testing.T) {
	for _, overlay := range []lab.Overlay{lab.Weave, lab.KopsMemberlist, lab.Both} {
		t.Run(string(overlay), func(t *testing.T) {
			run(t, "testdata/legacy.yaml", lab.Config{Start: cluster.Gossip, Overlay: overlay}, func(ctx context.Context, l *lab.Lab) error {
				const name = "api.internal.legacy.k8s.local"
				agreed := func(away string) func() (bool, error) {
					return func() (bool, error) {
						var want []netip.Addr
						for _, n := range l.Layout().ControlPlane() {
							if n.Name != away {
								want = append(want, n.Addr)
							}
						}
						slices.SortFunc(want, netip.Addr.Compare)
						for _, n := range l.Layout().Nodes {
							path, err := l.HostsFile(n.Name)
							if err != nil || n.Name == away {
								continue
							}
							content, err := os.ReadFile(path)
							if err != nil {
								return false, err
							}
							got := hosts.Lookup(content, name)
							slices.SortFunc(got, netip.Addr.Compare)
							if !slices.Equal(got, want) {
								return false, fmt.Errorf("%s has %v, want %v", n.Name, got, want)
							}
						}
						return true, nil
					}
				}
				if _, err := pollUntil(ctx, 30*time.Second, agreed("")); err != nil {
					return err
				}
				victim := l.Layout().ControlPlane()[0].Name
				if err := l.PowerOff(ctx, victim); err != nil {
					return err
				}
				took, err := pollUntil(ctx, 60*time.Second, agreed(victim))
				if err != nil {
					return err
				}
				t.Logf("a killed control-plane node is out of every block after %v", took.Round(time.Millisecond))
				if err := l.ChangeAddress(ctx, victim); err != nil {
					return err
				}
				if took, err = pollUntil(ctx, 60*time.Second, agreed("")); err != nil {
					return err
				}
				t.Logf("one with another address is in every block %v after it came up", took.Round(time.Millisecond))
				return nil
			})
		})
	}
}
