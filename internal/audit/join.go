package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// Joinable is a verdict on whether a node would join.
type Joinable string

// The verdicts.
const (
	Joins       Joinable = "joins"
	DoesNotJoin Joinable = "does-not-join"
	Unknown     Joinable = "unknown"
)

// State is the state of a link.
type State string

// The states of a link. Undecided: it could not be read, so the verdict is unknown.
// Unseen: it cannot be observed from where the audit runs, and counts only with
// [Input.Strict].
const (
	Holds     State = "holds"
	Broken    State = "broken"
	Undecided State = "unknown"
	Unseen    State = "unseen"
)

// Link is one precondition of a machine's way from boot to a node of the cluster.
type Link struct {
	Name   string `json:"link"`
	State  State  `json:"state"`
	Detail string `json:"detail"` // what was observed, one line
}

// The links, in the order in which a booting node depends on them.
const (
	LinkTemplate    = "template"
	LinkBoot        = "boot-configuration"
	LinkEndpoints   = "endpoints"
	LinkNames       = "names"
	LinkNetwork     = "network"
	LinkAPI         = "api-targets"
	LinkController  = "kops-controller-targets"
	LinkCertificate = "certificate"
	LinkPermissions = "permissions"
	LinkHash        = "node-configuration"
	LinkHandshake   = "handshake"
)

// Verdict says whether a machine with a given boot configuration would join, and
// why.
type Verdict struct {
	Joinable Joinable       `json:"joinable"`
	Path     cloud.BootPath `json:"path"`
	// BrokenLink is the name of the first broken link; empty unless Joinable is
	// [DoesNotJoin].
	BrokenLink string `json:"brokenLink"`
	Evidence   []Link `json:"evidence"`
}

// Group holds the verdicts on an instance group. The embedded one is on a new node.
type Group struct {
	Name string       `json:"name"`
	Role cluster.Role `json:"role"`
	Verdict
	// Reboots are the verdicts on live instances of older generations.
	Reboots []Reboot `json:"reboots,omitempty"`
}

// Reboot says whether the live instances of one generation would rejoin after a
// reboot.
type Reboot struct {
	Version   string   `json:"version"` // of their template; empty if unknown
	Instances []string `json:"instances"`
	Verdict
}

// groups evaluates all groups but bastions: those of the spec in its order, then
// those that only the cloud has.
func (in Input) groups() []Group {
	var all []Group
	seen := map[string]bool{}
	for _, g := range in.Spec.Groups {
		seen[g.Name] = true
		if g.Role == cluster.RoleBastion {
			continue
		}
		all = append(all, in.group(g.Name, g.Role))
	}
	if in.Cloud != nil {
		for _, g := range in.Cloud.Groups {
			if !seen[g.Name] && g.Role != cluster.RoleBastion {
				all = append(all, in.group(g.Name, g.Role))
			}
		}
	}
	return all
}

// group evaluates one group.
func (in Input) group(name string, role cluster.Role) Group {
	out := Group{Name: name, Role: role}
	seen, ok := in.observed(name)
	if !ok {
		why, missing := in.gap("groups", name)
		if !missing {
			why, missing = in.gap("instance groups", name)
		}
		if !missing {
			why = "the cloud has no such group"
		}
		out.Verdict = conclude(cloud.BootUnknown, []Link{{LinkTemplate, Undecided, why}}, in.Strict)
		return out
	}
	foreign, isForeign := in.gap(cloud.GapForeignBoot, name)
	absent, isAbsent := in.absent("boot configuration", name)
	switch {
	case isForeign:
		out.Verdict = conclude(cloud.BootUnknown, []Link{in.template(seen), {LinkBoot, Broken, foreign}}, in.Strict)
	case isAbsent && seen.Template.ID == "":
		out.Verdict = conclude(cloud.BootUnknown, []Link{{LinkTemplate, Broken, absent}}, in.Strict)
	case isAbsent:
		out.Verdict = conclude(cloud.BootUnknown, []Link{in.template(seen), {LinkBoot, Broken, absent}}, in.Strict)
	default:
		out.Verdict = in.verdict(chain{group: seen}, seen.Template.Boot, in.template(seen))
	}
	for _, r := range generations(seen) {
		link := Link{LinkTemplate, Holds, fmt.Sprintf("%d live, born from version %s", len(r.Instances), cmp.Or(r.Version, "unknown"))}
		r.Verdict = in.verdict(chain{group: seen, live: true}, bootOf(seen, r.Instances), link)
		out.Reboots = append(out.Reboots, r)
	}
	return out
}

// observed returns the group as the cloud has it.
func (in Input) observed(name string) (cloud.Group, bool) {
	if in.Cloud == nil {
		return cloud.Group{}, false
	}
	for _, g := range in.Cloud.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return cloud.Group{}, false
}

// generations returns the older generations of a group's live instances, without
// verdicts: one for each template version and boot configuration.
func generations(g cloud.Group) []Reboot {
	var all []Reboot
	at := map[string]int{}
	for _, i := range g.Living() {
		if i.Generation == cloud.GenerationNew {
			continue
		}
		key := i.Version
		if i.Boot != nil {
			key += "\x00" + fmt.Sprint(i.Boot.Servers, i.Boot.ConfigBase, i.Boot.ConfigHash)
		}
		n, ok := at[key]
		if !ok {
			n = len(all)
			at[key] = n
			all = append(all, Reboot{Version: i.Version})
		}
		all[n].Instances = append(all[n].Instances, i.ID)
	}
	return all
}

// bootOf returns the boot configuration of the first of the instances with the given
// IDs; nil if it is not known.
func bootOf(g cloud.Group, ids []string) *cloud.BootConfig {
	for _, i := range g.Instances {
		if i.ID == ids[0] {
			return i.Boot
		}
	}
	return nil
}

// template evaluates the link to the template of a group's next instance.
func (in Input) template(g cloud.Group) Link {
	if g.Template.ID == "" {
		why, missing := in.gap("template", g.Name)
		if !missing {
			why = "the group names no template"
		}
		return Link{LinkTemplate, Undecided, why}
	}
	detail := g.Template.ID
	if g.Template.Version != "" {
		detail += " version " + g.Template.Version
	}
	return Link{LinkTemplate, Holds, detail}
}

// verdict evaluates all links of a boot configuration, of which first has been
// evaluated already. c holds the group, and whether the instance is live.
func (in Input) verdict(c chain, boot *cloud.BootConfig, first Link) Verdict {
	c.in, c.links = in, []Link{first}
	if boot == nil {
		why, missing := in.gap("boot configuration", c.group.Name)
		if !missing {
			why = "the user-data was not read"
		}
		c.add(LinkBoot, Undecided, "%s", why)
		return conclude(cloud.BootUnknown, c.links, in.Strict)
	}
	c.boot, c.path = *boot, bootconfig.Path(boot)
	if c.path == cloud.BootGossip && c.controlPlane() && !in.gossips() {
		c.path = PathStore
	}
	c.bootConfiguration()
	c.endpoints()
	c.names()
	c.network()
	c.targets()
	c.certificate()
	c.permissions()
	c.hash()
	return conclude(c.path, c.links, in.Strict)
}

// PathStore is the boot path of a control-plane node that does not gossip: it reads
// the state store and uses its own API server.
const PathStore cloud.BootPath = "state-store"

// conclude derives a verdict from all links.
func conclude(path cloud.BootPath, links []Link, strict bool) Verdict {
	v := Verdict{Joinable: Joins, Path: path, Evidence: links}
	has := func(s State) bool { return slices.ContainsFunc(links, func(l Link) bool { return l.State == s }) }
	switch i := slices.IndexFunc(links, func(l Link) bool { return l.State == Broken }); {
	case i >= 0:
		v.Joinable, v.BrokenLink = DoesNotJoin, links[i].Name
	case has(Undecided), strict && has(Unseen):
		v.Joinable = Unknown
	}
	return v
}

// Link returns the link with a name; zero if it was not evaluated.
func (v Verdict) Link(name string) Link {
	for _, l := range v.Evidence {
		if l.Name == name {
			return l
		}
	}
	return Link{}
}

// firstLink returns the first link in a state.
func (v Verdict) firstLink(s State) Link {
	for _, l := range v.Evidence {
		if l.State == s {
			return l
		}
	}
	return Link{}
}

// undecidedLink returns the link that makes a verdict unknown.
func (v Verdict) undecidedLink() Link {
	if l := v.firstLink(Undecided); l.Name != "" {
		return l
	}
	return v.firstLink(Unseen)
}
