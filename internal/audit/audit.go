package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Finding is one violation of a [Rule].
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`  // a group, role, load balancer, pod owner or field, or the cluster
	Observed string   `json:"observed"` // one line
	Title    string   `json:"title"`
	Why      string   `json:"why"`
	Link     string   `json:"link"`
	Next     string   `json:"next"`
	// Blocks is the next stage that the finding blocks.
	Blocks Stage `json:"blocks"`
	// GoneAfter is the topology whose migration resolves the finding, or [Stays].
	GoneAfter cluster.Topology `json:"goneAfter"`
	// Accepted is set while an acceptance covers the finding.
	Accepted *Acceptance `json:"accepted,omitempty"`
}

// Report is the result of an audit.
type Report struct {
	Cluster  string           `json:"cluster"`
	Topology cluster.Topology `json:"topology"`
	// TopologyBefore136 is what it is if a kOps before 1.36 configured the cluster, where
	// that is something else and the version is not known.
	TopologyBefore136 cluster.Topology `json:"topologyBefore136,omitempty"`
	KopsVersion       string           `json:"kopsVersion"` // empty if unknown
	Cloud             cluster.Cloud    `json:"cloud"`
	Groups            []Group          `json:"groups"`
	Findings          []Finding        `json:"findings"` // worst first
	// Certificates are those that probes read, sorted by address.
	Certificates []Certificate `json:"certificates"`
	// Unknown lists what could not be observed, one line each.
	Unknown []string `json:"unknown"`
}

// TopologyText returns the topology, both where the version decides which of two it is.
func (r Report) TopologyText() string { return topologyText(r.Topology, r.TopologyBefore136) }

func topologyText(now, before136 cluster.Topology) string {
	if before136 == "" {
		return string(now)
	}
	return fmt.Sprintf("%s, or %s if its kOps is older than 1.36", now, before136)
}

// Certificate is the serving certificate of a server.
type Certificate struct {
	At    string   `json:"at"`    // HOST:PORT
	Names []string `json:"names"` // its DNS names and IP addresses
}

// Run evaluates the input. Accepted findings stay in the report, marked as such.
func Run(in Input, accepted []Acceptance) Report {
	r := Report{
		Cluster: in.Spec.Name, Topology: in.Topology(), TopologyBefore136: in.topologyBefore136(), KopsVersion: in.Version, Cloud: in.Spec.Cloud,
		Groups: in.groups(), Findings: []Finding{}, Certificates: in.certificates(), Unknown: in.unobserved(),
	}
	for _, check := range []func(Input, *Report){
		deadline, migration, permissions, overlay, exposure, dependents, supplyChain, joinability,
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
		in.setOutlook(&r.Findings[i])
		r.Findings[i].Accepted = accept(r.Findings[i], accepted, in.Now)
	}
	return r
}

// addFinding adds a finding with the given rule ID and observation. IDs are
// constants of this package; a test checks that each has a rule.
func (r *Report) addFinding(id, subject, format string, args ...any) *Finding {
	rule, _ := RuleOf(id)
	r.Findings = append(r.Findings, Finding{
		ID: id, Severity: rule.Severity, Subject: subject, Observed: fmt.Sprintf(format, args...),
		Title: rule.Title, Why: rule.Why, Link: rule.Link, Next: rule.Next,
	})
	return &r.Findings[len(r.Findings)-1]
}

// Open returns the findings of at least the given severity that are not accepted.
func (r Report) Open(least Severity) []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool {
		return f.Accepted != nil || !f.Severity.AtLeast(least)
	})
}

// certificates returns the certificates that probes read, sorted by address.
func (in Input) certificates() []Certificate {
	list := []Certificate{}
	if in.Probes != nil {
		for _, at := range slices.Sorted(maps.Keys(in.Probes.TLSNames)) {
			list = append(list, Certificate{at, in.Probes.TLSNames[at]})
		}
	}
	return list
}

// unobserved lists what could not be observed.
func (in Input) unobserved() []string {
	list := []string{}
	if in.Version == "" {
		list = append(list, "kOps version: the state store was not read or does not say")
	}
	if in.Cloud == nil {
		list = append(list, "the cloud: instances, templates, load balancers, network rules and permissions")
	} else {
		list = append(list, gapLines(in.Cloud.Gaps)...)
	}
	if in.Store == nil {
		list = append(list, "the state store: node configurations and add-ons")
	} else {
		list = append(list, gapLines(in.Store.Gaps)...)
	}
	if in.Probes != nil {
		list = append(list, gapLines(in.Probes.Gaps)...)
	}
	if in.Probes == nil || in.Probes.TLSNames == nil && len(in.Probes.Gaps) == 0 {
		list = append(list, "serving certificates: seen from inside the network only")
	}
	if in.gossips() && in.Overlay == nil {
		list = append(list, "what the gossip overlay carries: --gossip takes what muster gossip inspect -o json prints")
	}
	switch {
	case in.Workloads != nil:
		list = append(list, gapLines(in.Workloads.Gaps)...)
	case in.gossips():
		list = append(list, "pods that copied the nodes' hosts file, or call protokube: seen through the cluster's API, with --kubeconfig or --context")
	}
	if in.Hosts == nil {
		list = append(list, "the nodes' hosts blocks: --hosts takes copies of the files")
	}
	return list
}

// gapLines formats gaps, those of one kind with the same reason on one line.
func gapLines(gaps []cloud.Gap) (list []string) {
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

// Acceptance is a decision to tolerate a finding until a given day.
type Acceptance struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"` // empty: any subject
	Reason  string    `json:"reason"`
	Until   time.Time `json:"until"` // exclusive: midnight UTC after the last day
}

// accept returns the acceptance that covers a finding now, or nil.
func accept(f Finding, accepted []Acceptance, now time.Time) *Acceptance {
	for _, a := range accepted {
		if a.ID == f.ID && (a.Subject == "" || a.Subject == f.Subject) && now.Before(a.Until) {
			return &a
		}
	}
	return nil
}
