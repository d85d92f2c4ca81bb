package rehearse

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/report"
)

// judge evaluates every rule. A rule for which nothing was measured is broken:
// unknown is not pass.
func (r *rehearsal) judge(failures []probe.Sample, gossiping []string) []report.Rule {
	rules := []report.Rule{
		r.everyGate(),
		r.steady(),
		r.balancer(failures),
		r.neverEmpty(failures),
		r.gossipGone(gossiping),
		r.leastPrivilege(),
	}
	if r.fault != nil {
		rules = append(rules, r.faultInjected())
	}
	return rules
}

func rule(name string, held bool, format string, args ...any) report.Rule {
	return report.Rule{Name: name, Held: held, Detail: fmt.Sprintf(format, args...)}
}

func (r *rehearsal) everyGate() report.Rule {
	const name = "gates: every step's gates passed"
	if !r.complete {
		return rule(name, false, "stopped at %s", r.stopped)
	}
	asked := 0
	for _, s := range r.evidence.Steps {
		for _, a := range s.Actions {
			asked += len(a.Gates)
		}
	}
	return rule(name, asked > 0, "%d steps, %d gates", len(r.evidence.Steps), asked)
}

func (r *rehearsal) steady() report.Rule {
	const name = "steady: every worker always had a working path"
	var worst string
	var longest time.Duration
	for _, w := range r.evidence.PerNode {
		if len(w.Paths) == 0 {
			return rule(name, false, "nothing was measured on %s", w.Name)
		}
		for _, l := range w.Losses {
			if worst == "" || l.Lasts > longest {
				worst, longest = fmt.Sprintf("%s for %v from %s: %s", w.Name, l.Lasts.Round(time.Millisecond), l.Began.Format("15:04:05.000"), l.Err), l.Lasts
			}
		}
	}
	if worst != "" {
		return rule(name, false, "%d of %d workers were without any; longest: %s", r.evidence.Lost, len(r.evidence.PerNode), worst)
	}
	return rule(name, len(r.evidence.PerNode) > 0, "%d workers, %d probes", len(r.evidence.PerNode), r.evidence.Probes.Sent)
}

// balancer: no new connection through a worker's local balancer failed. Probes in
// flight when a fault was injected are not new: the server that they had reached
// may be gone.
func (r *rehearsal) balancer(failures []probe.Sample) report.Rule {
	const name = "balancer: no new connection through a local balancer failed"
	if r.cfg.Boots != nil {
		return rule(name, true, "kOps's workers have none")
	}
	sent, failed, inFlight := 0, 0, 0
	for _, w := range r.evidence.PerNode {
		for _, f := range w.Paths {
			if f.Path == probe.LocalBalancer {
				sent += f.Sent
			}
		}
	}
	var last string
	for _, s := range failures {
		switch {
		case s.Path != probe.LocalBalancer:
		case r.fault != nil && s.Began.Before(r.fault.injected) && s.Began.Add(s.Took).After(r.fault.began):
			inFlight++
		default:
			failed++
			last = "; last: " + s.Err
		}
	}
	detail := fmt.Sprintf("%d sent, %d failed%s", sent, failed, last)
	if inFlight > 0 {
		detail += fmt.Sprintf(" (and %d under way when the fault struck)", inFlight)
	}
	return rule(name, sent > 0 && failed == 0, "%s", detail)
}

func (r *rehearsal) neverEmpty(failures []probe.Sample) report.Rule {
	const name = "endpoints: the API's name always had an address on every worker"
	for _, s := range failures {
		if s.Path == probe.ByName && strings.Contains(s.Err, probe.NoAddress) {
			return rule(name, false, "%s", s.Err)
		}
	}
	lookups := 0
	for _, w := range r.evidence.PerNode {
		for _, f := range w.Paths {
			if f.Path == probe.ByName {
				lookups += f.Sent
			}
		}
	}
	return rule(name, lookups > 0, "looked up %d times", lookups)
}

// faultInjected: a rehearsal whose fault did not happen proves nothing about it.
func (r *rehearsal) faultInjected() report.Rule {
	const name = "fault: what was to go wrong went wrong"
	f := r.fault.report
	if f.Error != "" {
		return rule(name, false, "%s: %s", f.Kind, f.Error)
	}
	return rule(name, !r.fault.injected.IsZero(), "%s, during %s", f.Kind, f.During)
}

func (r *rehearsal) gossipGone(gossiping []string) report.Rule {
	name := "gossip: none left on any node"
	if r.cfg.To == cluster.Hybrid {
		name = "gossip: none left on any worker"
		workers := 0
		for _, w := range r.evidence.PerNode {
			if w.GossipAfter.Any() {
				workers++
			}
		}
		return rule(name, workers == 0 && len(r.evidence.PerNode) > 0, "%d of %d workers gossip", workers, len(r.evidence.PerNode))
	}
	if len(gossiping) > 0 {
		return rule(name, false, "still on %s", strings.Join(gossiping, ", "))
	}
	return rule(name, r.evidence.Nodes > 0, "no process and no port on %d nodes", r.evidence.Nodes)
}

func (r *rehearsal) leastPrivilege() report.Rule {
	const name = "privilege: what workers are left with links no overlay and no cloud SDK"
	for _, p := range r.evidence.Programs {
		if p.Program != "muster-agent" {
			continue
		}
		held := len(p.Overlays)+len(p.Clouds) == 0 && len(p.Modules) > 0
		return rule(name, held, "muster-agent: %d modules, %d overlays, %d cloud SDKs", len(p.Modules), len(p.Overlays), len(p.Clouds))
	}
	return rule(name, false, "muster-agent was not inspected")
}
