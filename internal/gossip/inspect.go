package gossip

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Expect says what a cluster's overlays should contain.
type Expect struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Networks contain its addresses. Default PrivateNetworks, and the report says that they were assumed.
	Networks []netip.Prefix
	// Secret says that the weave overlay was read with a non-empty secret.
	Secret bool
}

func (e Expect) networks() []netip.Prefix {
	if len(e.Networks) == 0 {
		return PrivateNetworks()
	}
	return e.Networks
}

func (e Expect) names() []string { return (&cluster.Cluster{Name: e.Cluster}).Names() }

func (e Expect) policy() legacy.Policy {
	return legacy.Policy{Names: e.names(), Networks: e.networks()}
}

// Inspect makes a report from views. It is pure. Without any view the report says that nothing is known.
func Inspect(e Expect, views []View, failed []Failure, now time.Time) Report {
	r := Report{
		Cluster: e.Cluster, Networks: e.networks(), NetworksAssumed: len(e.Networks) == 0,
		// Lists are never null in JSON.
		Overlays: []Overlay{}, Asked: []Visited{}, Unread: []Unread{}, Records: []Record{},
		Peers: []SeenPeer{}, Ties: []Tie{}, Differences: []Difference{}, Findings: []Finding{},
	}
	for _, f := range failed {
		r.Unread = append(r.Unread, Unread{f.Overlay, f.Addr, f.Err.Error()})
	}
	newest := make(map[Overlay][]legacy.Entry)
	for _, o := range []Overlay{Weave, Memberlist} {
		seen := slices.DeleteFunc(slices.Clone(views), func(v View) bool { return v.Overlay != o })
		if len(seen) == 0 {
			continue
		}
		r.Overlays = append(r.Overlays, o)
		for _, v := range seen {
			r.Asked = append(r.Asked, Visited{o, v.Addr, v.Node, len(v.State), len(v.Peers)})
		}
		newest[o] = newestOf(seen)
		r.Records = append(r.Records, records(e, o, newest[o], seen, now)...)
		r.Peers = append(r.Peers, mergePeers(o, seen)...)
		r.Ties = append(r.Ties, ties(o, seen)...)
	}
	if len(r.Overlays) == 2 {
		r.Differences = differences(newest[Weave], newest[Memberlist])
	}
	r.Findings = findings(e, r, now)
	r.Verdict = verdict(e, r)
	return r
}

// Newest merges the views of an overlay as a peer would: the greatest version of each key, ordered by key.
func Newest(views []View, o Overlay) []legacy.Entry {
	return newestOf(slices.DeleteFunc(slices.Clone(views), func(v View) bool { return v.Overlay != o }))
}

// newestOf merges views as a peer would: the greatest version of each key.
func newestOf(views []View) []legacy.Entry {
	held := make(map[string]legacy.Entry)
	for _, v := range views {
		for _, e := range v.State {
			if old, ok := held[e.Key]; !ok || e.Version > old.Version {
				held[e.Key] = e
			}
		}
	}
	var entries []legacy.Entry
	for _, k := range slices.Sorted(maps.Keys(held)) {
		entries = append(entries, held[k])
	}
	return entries
}

func records(e Expect, o Overlay, entries []legacy.Entry, views []View, now time.Time) []Record {
	verdicts, _ := e.policy().Evaluate(nil, entries, now)
	out := make([]Record, len(entries))
	for i, v := range verdicts {
		entry := entries[i]
		rec := Record{
			Overlay: o, Key: clip(entry.Key, maxName), Name: clip(v.Name, maxName), Type: clip(v.Type, maxName), Addresses: []string{}, HeldBy: []string{},
			Version: entry.Version, Written: timeOf(entry.Version, now), Tombstone: entry.Tombstone,
			Accepted: v.Accepted, Why: clip(v.Why, 4096),
		}
		switch {
		case entry.Value == "":
		case v.Type == legacy.TypeA || v.Type == legacy.TypeAAAA:
			rec.Addresses = strings.Split(clip(entry.Value, 4096), ",")
		default:
			rec.Value = clip(entry.Value, maxName)
		}
		for _, view := range views {
			if slices.Contains(view.State, entry) {
				rec.HeldBy = append(rec.HeldBy, view.Node)
			} else {
				rec.MissedBy = append(rec.MissedBy, view.Node)
			}
		}
		out[i] = rec
	}
	return out
}

// maxName bounds names from the overlay, in bytes.
const maxName = 256

// clip makes foreign text safe to print: it truncates it to about limit bytes and replaces control characters, which
// could move a terminal's cursor or forge a line.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// unbeatable reports whether a version cannot be a clock reading: it is more than a century ahead.
func unbeatable(version uint64, now time.Time) bool {
	return version > uint64(max(now.Unix(), 0))+100*365*24*3600
}

func timeOf(version uint64, now time.Time) *time.Time {
	if version == 0 || version > math.MaxInt64 || unbeatable(version, now) {
		return nil
	}
	t := time.Unix(int64(version), 0).UTC()
	return &t
}

// mergePeers returns every peer once. A peer's view of itself counts most; of two views of a third peer, the better
// state, because whoever is connected knows.
func mergePeers(o Overlay, views []View) []SeenPeer {
	rank := func(v View, p Peer) int {
		if p.ID == v.NodeID {
			return -1
		}
		return slices.Index([]PeerState{Connected, Alive, Reachable, Left, Suspect, Unreachable, Dead}, p.State)
	}
	best, ranks := make(map[string]Peer), make(map[string]int)
	label := make(map[string]string)
	for _, v := range views {
		for _, p := range v.Peers {
			if label[p.ID] == "" || p.NickName != "" {
				label[p.ID] = p.Label()
			}
			old, known := best[p.ID]
			if !known || rank(v, p) < ranks[p.ID] {
				p.Addr, p.NickName = cmp.Or(p.Addr, old.Addr), cmp.Or(p.NickName, old.NickName)
				best[p.ID], ranks[p.ID] = p, rank(v, p)
			}
		}
	}
	return seenPeers(o, best, label)
}

func seenPeers(o Overlay, peers map[string]Peer, label map[string]string) []SeenPeer {
	var out []SeenPeer
	for _, p := range peers {
		s := SeenPeer{Overlay: o, ID: p.ID, NickName: p.NickName, State: p.State}
		if p.Addr.IsValid() {
			s.Address = p.Addr.String()
		}
		for _, l := range p.Links {
			s.ConnectedTo = append(s.ConnectedTo, cmp.Or(label[l], l))
		}
		slices.Sort(s.ConnectedTo)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b SeenPeer) int {
		return cmp.Or(strings.Compare(a.Label(), b.Label()), strings.Compare(a.ID, b.ID))
	})
	return out
}

// ties returns versions with several values, within one view or between views.
func ties(o Overlay, views []View) []Tie {
	type at struct {
		key     string
		version uint64
	}
	values := make(map[at][]string)
	add := func(e legacy.Entry) {
		k, text := at{e.Key, e.Version}, valueText(e.Record)
		if !slices.Contains(values[k], text) {
			values[k] = append(values[k], text)
		}
	}
	for _, v := range views {
		for _, e := range v.State {
			add(e)
		}
		for _, t := range v.Ties {
			add(t.Held)
			add(t.Other)
		}
	}
	var out []Tie
	for k, texts := range values {
		if len(texts) > 1 {
			slices.Sort(texts)
			out = append(out, Tie{o, clip(k.key, maxName), k.version, texts})
		}
	}
	slices.SortFunc(out, func(a, b Tie) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// valueText renders a record's value for people.
func valueText(r legacy.Record) string {
	switch {
	case r.Tombstone:
		return "withdrawn"
	case r.Value == "":
		return "empty"
	}
	return clip(r.Value, maxName)
}

func differences(weave, memberlist []legacy.Entry) []Difference {
	live := func(r *legacy.Record) string {
		if r == nil || r.Tombstone {
			return ""
		}
		return clip(r.Value, maxName)
	}
	out := []Difference{}
	for _, d := range legacy.Compare(weave, memberlist) {
		out = append(out, Difference{clip(d.Key, maxName), live(d.Primary), live(d.Secondary)})
	}
	return out
}

// apiName is the name that kubelets connect to.
func (e Expect) apiName() string { return e.names()[1] }

func verdict(e Expect, r Report) string {
	if len(r.Overlays) == 0 {
		return "nothing is known: no peer could be read"
	}
	byValue := make(map[string][]Overlay)
	for _, o := range r.Overlays {
		byValue[apiValue(e, r, o)] = append(byValue[apiValue(e, r, o)], o)
	}
	var parts []string
	for _, value := range slices.Sorted(maps.Keys(byValue)) {
		where := ""
		if len(byValue) > 1 {
			where = fmt.Sprintf(" in %s", byValue[value][0])
		}
		if value == "" {
			parts = append(parts, fmt.Sprintf("%s has no address to be believed%s", e.apiName(), where))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s is %s%s", e.apiName(), value, where))
	}
	return strings.Join(parts, "; ")
}

// apiValue returns the accepted addresses of the API's name, joined.
func apiValue(e Expect, r Report, o Overlay) string {
	var addrs []string
	for _, rec := range r.Records {
		if rec.Overlay == o && rec.Accepted && rec.Name == e.apiName() {
			for _, a := range rec.Addresses {
				if accepted(e, a) {
					addrs = append(addrs, a)
				}
			}
		}
	}
	return strings.Join(addrs, ",")
}

func accepted(e Expect, text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && inside(e.networks(), a)
}
