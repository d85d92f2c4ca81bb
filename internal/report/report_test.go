package report

import (
	"testing"
)

func TestCombine(t *testing.T) {
	good := Rehearsal{Verdict: Pass, Probes: Probes{Sent: 10, Failed: 1}, Lost: 0, Workers: 3}
	bad := Rehearsal{Verdict: Fail, Probes: Probes{Sent: 5, Failed: 2}, Lost: 1, Workers: 2, Gossip: 1}
	for _, tt := range []struct {
		name string
		all  []Rehearsal
		want Result
	}{
		{"nothing rehearsed is no pass", nil, Result{Verdict: Fail}},
		{"one pass is a pass", []Rehearsal{good}, Result{Verdict: Pass, Probes: Probes{10, 1}, Workers: 3}},
		{"one failure spoils a pass, and figures add up", []Rehearsal{good, bad},
			Result{Verdict: Fail, Probes: Probes{15, 3}, Lost: 1, Workers: 5, Gossip: 1}},
		{"a failure that comes first is not forgotten", []Rehearsal{bad, good},
			Result{Verdict: Fail, Probes: Probes{15, 3}, Lost: 1, Workers: 5, Gossip: 1}},
		{"a refusal is no pass", []Rehearsal{good, {Verdict: Fail, Refused: "no load balancer"}},
			Result{Verdict: Fail, Probes: Probes{10, 1}, Workers: 3}},
		{"unknown is no pass", []Rehearsal{{Verdict: Unknown}}, Result{Verdict: Fail}},
		{"a missing verdict is no pass", []Rehearsal{{}}, Result{Verdict: Fail}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Combine(tt.all)
			if len(got.Rehearsals) != len(tt.all) {
				t.Errorf("%d rehearsals, want %d", len(got.Rehearsals), len(tt.all))
			}
			if got.Verdict != tt.want.Verdict || got.Probes != tt.want.Probes || got.Lost != tt.want.Lost ||
				got.Workers != tt.want.Workers || got.Gossip != tt.want.Gossip {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestGossipOfAnyKindCounts(t *testing.T) {
	for _, tt := range []struct {
		name string
		g    Gossip
		want bool
	}{
		{"nothing", Gossip{}, false},
		{"a process", Gossip{Processes: []string{"muster-peer"}}, true},
		{"a port", Gossip{Ports: []string{"udp :7946"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.g.Any(); got != tt.want {
				t.Errorf("Any() = %v, want %v", got, tt.want)
			}
		})
	}
}
