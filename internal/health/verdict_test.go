package health

import (
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"pgregory.net/rapid"
)

var (
	up       = outcome{kind: answered, reason: "up"}
	upKept   = outcome{kind: answered, reason: "up", kept: true}
	no       = outcome{kind: declined, reason: "no"}
	stranger = outcome{kind: impostor, reason: "who?"}
	noKept   = outcome{kind: declined, reason: "no", kept: true}
	refused  = outcome{kind: silent, reason: "refused"}
	timeout  = outcome{kind: silent, reason: "timeout", timedOut: true}
	broken   = outcome{kind: silent, reason: "broken", kept: true}
	hungKept = outcome{kind: silent, reason: "hung", kept: true, timedOut: true}
)

func TestJudge(t *testing.T) {
	type seen struct {
		outcome outcome
		step    step
		health  endpoint.Health
	}
	tests := []struct {
		name       string
		fall, rise int
		seen       []seen
	}{
		{"the first answer makes a server up", 2, 1, []seen{
			{up, settled, endpoint.Up},
		}},
		{"one refusal leaves a doubt, the second makes it down", 2, 1, []seen{
			{up, settled, endpoint.Up},
			{refused, doubtful, endpoint.Up},
			{refused, settled, endpoint.Down},
		}},
		{"a server never seen up needs as many failures as any other", 2, 1, []seen{
			{timeout, doubtful, endpoint.Unknown},
			{timeout, settled, endpoint.Down},
		}},
		{"an answer ends a doubt", 2, 1, []seen{
			{up, settled, endpoint.Up},
			{timeout, doubtful, endpoint.Up},
			{up, settled, endpoint.Up},
			{timeout, doubtful, endpoint.Up},
		}},
		{"a server that says no is draining at once", 2, 1, []seen{
			{up, settled, endpoint.Up},
			{no, settled, endpoint.Draining},
		}},
		{"who does not prove to be the server is down at once", 2, 1, []seen{
			{up, settled, endpoint.Up},
			{stranger, settled, endpoint.Down},
		}},
		{"a server that drains and then falls silent is down", 2, 1, []seen{
			{no, settled, endpoint.Draining},
			{refused, doubtful, endpoint.Draining},
			{refused, settled, endpoint.Down},
		}},
		{"a kept connection that says no is asked again over a new one", 2, 1, []seen{
			{up, settled, endpoint.Up},
			{noKept, stale, endpoint.Up},
			{up, settled, endpoint.Up},
		}},
		{"a kept connection that broke is no failure", 2, 1, []seen{
			{upKept, settled, endpoint.Up},
			{broken, stale, endpoint.Up},
			{refused, doubtful, endpoint.Up},
			{refused, settled, endpoint.Down},
		}},
		{"a kept connection that hangs counts, and a new one decides", 2, 1, []seen{
			{upKept, settled, endpoint.Up},
			{hungKept, doubtful, endpoint.Up},
			{timeout, settled, endpoint.Down},
		}},
		{"a kept connection never decides even where one failure does", 1, 1, []seen{
			{upKept, settled, endpoint.Up},
			{hungKept, stale, endpoint.Up},
			{timeout, settled, endpoint.Down},
		}},
		{"a server that is down stays so until it has answered often enough", 2, 3, []seen{
			{stranger, settled, endpoint.Down},
			{up, settled, endpoint.Down},
			{upKept, settled, endpoint.Down},
			{refused, settled, endpoint.Down},
			{up, settled, endpoint.Down},
			{up, settled, endpoint.Down},
			{up, settled, endpoint.Up},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := judge{fall: tt.fall, rise: tt.rise}
			for i, s := range tt.seen {
				if got := j.observe(s.outcome); got != s.step || j.health != s.health {
					t.Fatalf("outcome %d (%+v): got step %d, health %s; want %d, %s", i, s.outcome, got, j.health, s.step, s.health)
				}
			}
		})
	}
}

// A target's loop is played with arbitrary outcomes: a probe is kept only where
// the probe before it was answered, as in the real loop.
func TestJudgeNeedsEvidenceForEveryVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := judge{fall: rapid.IntRange(1, 4).Draw(t, "fall"), rise: rapid.IntRange(1, 4).Draw(t, "rise")}
		canKeep := false
		unanswered, answers, inRound := 0, 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "probes") {
			o := outcome{
				kind: rapid.SampledFrom([]kind{answered, declined, impostor, silent}).Draw(t, "kind"),
				kept: canKeep && rapid.Bool().Draw(t, "kept"),
			}
			o.timedOut = o.kind == silent && rapid.Bool().Draw(t, "timed out")
			canKeep = o.kind == answered
			if o.kind == answered {
				unanswered, answers = 0, answers+1
			} else {
				unanswered, answers = unanswered+1, 0
			}
			was := j.health
			next := j.observe(o)
			inRound++

			if next == stale && !o.kept {
				t.Fatal("a new connection was called stale")
			}
			if j.health != was {
				switch {
				case next != settled:
					t.Fatalf("health went from %s to %s while in doubt", was, j.health)
				case j.health.Away() && o.kept:
					t.Fatal("a kept connection made the server down")
				case j.health == endpoint.Down && o.kind == silent && unanswered < j.fall:
					t.Fatalf("%d unanswered probes made the server down; want %d", unanswered, j.fall)
				case j.health == endpoint.Down && o.kind == answered:
					t.Fatal("an answer made the server down")
				case j.health == endpoint.Draining && o.kind != declined:
					t.Fatalf("outcome %d made the server draining", o.kind)
				case j.health == endpoint.Up && was.Away() && answers < j.rise:
					t.Fatalf("%d answers made the server up; want %d", answers, j.rise)
				}
			}
			if next != settled {
				// At most one kept probe and fall new ones make a round.
				if inRound > j.fall {
					t.Fatalf("still no verdict after %d probes with fall %d", inRound, j.fall)
				}
				continue
			}
			inRound = 0
			if o.kind != answered && !j.health.Away() {
				t.Fatalf("settled at %s after a failed probe", j.health)
			}
		}
	})
}

// The verdict of a probe that was under way when its target went must not bring
// the target back, nor speak for a new target at the same address.
func TestLateVerdictOfARemovedTargetIsDropped(t *testing.T) {
	c, err := New(Config{ServerName: "api", Roots: x509.NewCertPool()})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("10.0.0.1:443")
	c.SetTargets([]netip.AddrPort{addr})
	removed := c.targets[addr]
	c.SetTargets(nil)
	c.publishVerdict(removed, verdict{health: endpoint.Down, reason: "late"})
	if got := c.Results(); len(got) != 0 {
		t.Errorf("after it went: got %v", got)
	}
	c.SetTargets([]netip.AddrPort{addr})
	c.publishVerdict(removed, verdict{health: endpoint.Down, reason: "late"})
	if got := c.Results()[addr].Health; got != endpoint.Unknown {
		t.Errorf("after it came back: got %s, want unknown", got)
	}
}

func TestOnlyTheDecidingProbeHasTheFullTimeout(t *testing.T) {
	tests := []struct {
		name  string
		judge judge
		kept  bool
		want  time.Duration
	}{
		{"the first probe of a round is given little", judge{fall: 2, health: endpoint.Up}, false, 400 * time.Millisecond},
		{"a kept connection is given little", judge{fall: 1, health: endpoint.Up}, true, 400 * time.Millisecond},
		{"the last probe of a round is given all", judge{fall: 2, fails: 1, health: endpoint.Up}, false, time.Second},
		{"a probe that decides alone is given all", judge{fall: 1, health: endpoint.Up}, false, time.Second},
		{"a server that is down is given all to come back", judge{fall: 3, health: endpoint.Down}, false, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.judge.probeTimeout(tt.kept, time.Second); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
