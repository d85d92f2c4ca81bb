package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Finding is something that should not be as it is.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`  // what it is about: a group, role, load balancer, or the cluster
	Observed string   `json:"observed"` // what was seen, one line
	Title    string   `json:"title"`
	Why      string   `json:"why"`
	Link     string   `json:"link"`
	Next     string   `json:"next"`
	// Blocks is what it stands in the way of now.
	Blocks Stage `json:"blocks"`
	// GoneAfter is the topology after which it is gone by itself, or [Stays].
	GoneAfter cluster.Topology `json:"goneAfter"`
	// Accepted is set if somebody decided to live with it for now.
	Accepted *Acceptance `json:"accepted,omitempty"`
}

// Report is what an audit found.
type Report struct {
	Cluster     string           `json:"cluster"`
	Topology    cluster.Topology `json:"topology"`
	KopsVersion string           `json:"kopsVersion"` // empty if unknown
	Cloud       cluster.Cloud    `json:"cloud"`
	Groups      []Group          `json:"groups"`
	Findings    []Finding        `json:"findings"` // worst first
	// Certificates are those that were seen, by HOST:PORT.
	Certificates []Certificate `json:"certificates"`
	// Unknown lists what could not be looked at, one line each.
	Unknown []string `json:"unknown"`
}

// Certificate is what a server serves.
type Certificate struct {
	At    string   `json:"at"`    // HOST:PORT
	Names []string `json:"names"` // and addresses, as it carries them
}

// Run judges the input. accepted findings stay in the report, marked.
func Run(in Input, accepted []Acceptance) Report {
	r := Report{
		Cluster: in.Spec.Name, Topology: in.Topology(), KopsVersion: in.Version, Cloud: in.Spec.Cloud,
		Groups: in.groups(), Findings: []Finding{}, Certificates: in.certificates(), Unknown: in.unseen(),
	}
	for _, check := range []func(Input, *Report){
		deadline, migration, permissions, overlay, consumers, supplyChain, joinability,
	} {
		check(in, &r)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		all := Severities()
		return cmp.Or(
			cmp.Compare(slices.Index(all, a.Severity), slices.Index(all, b.Severity)),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject))
	})
	for i := range r.Findings {
		in.place(&r.Findings[i])
		r.Findings[i].Accepted = accept(r.Findings[i], accepted, in.Now)
	}
	return r
}

// find notes a finding of a kind. Ids are constants of this package, and a test
// sees that each has a rule.
func (r *Report) find(id, subject, format string, args ...any) *Finding {
	rule, _ := RuleOf(id)
	r.Findings = append(r.Findings, Finding{
		ID: id, Severity: rule.Severity, Subject: subject, Observed: fmt.Sprintf(format, args...),
		Title: rule.Title, Why: rule.Why, Link: rule.Link, Next: rule.Next,
	})
	return &r.Findings[len(r.Findings)-1]
}

// Open returns the findings at or above a severity that nobody accepted.
func (r Report) Open(least Severity) []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool {
		return f.Accepted != nil || !f.Severity.AtLeast(least)
	})
}

func (in Input) certificates() []Certificate {
	list := []Certificate{}
	if in.Probes != nil {
		for _, at := range sortedKeys(in.Probes.TLSNames) {
			list = append(list, Certificate{at, in.Probes.TLSNames[at]})
		}
	}
	return list
}

// unseen lists what could not be looked at.
func (in Input) unseen() []string {
	list := []string{}
	if in.Version == "" {
		list = append(list, "kOps version: the state store was not read or does not say")
	}
	if in.Cloud == nil {
		list = append(list, "the cloud: instances, templates, load balancers, network rules and permissions")
	} else {
		list = append(list, lines(in.Cloud.Gaps)...)
	}
	if in.Store == nil {
		list = append(list, "the state store: node configurations and add-ons")
	} else {
		list = append(list, lines(in.Store.Gaps)...)
	}
	if in.Probes != nil {
		list = append(list, lines(in.Probes.Gaps)...)
	}
	if in.Probes == nil || in.Probes.TLSNames == nil && len(in.Probes.Gaps) == 0 {
		list = append(list, "serving certificates: seen from inside the network only")
	}
	if in.gossips() && (in.Probes == nil || in.Probes.Overlay == nil) {
		list = append(list, "what the gossip overlay carries: muster gossip inspect, from a node")
	}
	switch {
	case in.Workloads != nil:
		list = append(list, lines(in.Workloads.Gaps)...)
	case in.gossips():
		list = append(list, "pods that copied the nodes' hosts file, or call protokube: seen through the cluster's API, with --kubeconfig or --context")
	}
	if in.Probes == nil || in.Probes.Hosts == nil {
		list = append(list, "the nodes' hosts blocks: seen on the nodes only")
	}
	return list
}

// lines says gaps of one kind that have one reason on one line.
func lines(gaps []cloud.Gap) (list []string) {
	type cause struct{ what, why string }
	at := map[cause]int{}
	var merged []cloud.Gap
	for _, g := range gaps {
		n, ok := at[cause{g.What, g.Why}]
		switch {
		case !ok:
			at[cause{g.What, g.Why}] = len(merged)
			merged = append(merged, g)
		case g.Subject != "" && merged[n].Subject != "":
			merged[n].Subject += ", " + g.Subject
		}
	}
	for _, g := range merged {
		list = append(list, g.String())
	}
	return list
}

// Acceptance is a decision to live with a finding for a while.
type Acceptance struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"` // empty: whatever it is about
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until"` // the day after the last on which it holds
}

func accept(f Finding, accepted []Acceptance, now time.Time) *Acceptance {
	for _, a := range accepted {
		if a.ID == f.ID && (a.Subject == "" || a.Subject == f.Subject) && now.Before(a.Until) {
			return &a
		}
	}
	return nil
}
