package kopshook

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/spec"
)

const (
	// bootName identifies the boothook, together with bootMark in its content.
	bootName = "muster-boothook"
	bootMark = "# Written by muster install; muster uninstall takes it out of the spec."
	bootType = "text/cloud-boothook"
	userData = "additionalUserData"
)

// userDataEntry is an element of spec.additionalUserData, which only an InstanceGroup has.
type userDataEntry struct {
	Name    string `yaml:"name"`
	Type    string `yaml:"type"`
	Content string `yaml:"content"`
}

// isOurs reports whether Boothook wrote an entry. A name alone would not prove it: what is taken for ours is removed.
func (e userDataEntry) isOurs() bool {
	return e.Name == bootName && strings.Contains(e.Content, bootMark)
}

func decodeUserData(manifest []byte) (kind string, entries []userDataEntry, err error) {
	var doc struct {
		Kind string `yaml:"kind"`
		Spec struct {
			UserData []userDataEntry `yaml:"additionalUserData"`
		} `yaml:"spec"`
	}
	if err := spec.Decode(manifest, &doc); err != nil {
		return "", nil, fmt.Errorf("not a kOps manifest: %w", err)
	}
	return doc.Kind, doc.Spec.UserData, nil
}

// Boothook returns the manifest of an InstanceGroup with a boothook added, which cloud-init runs at each boot before
// nodeup. It writes c.Servers into the node's hosts file unless the names are there already, in the block that kOps would
// write if it had addresses to give: with topology None and no load balancer it has none, and nodeup finds nobody to ask.
// An earlier boothook of ours is replaced.
//
// A group that has an entry of somebody else's with kops-controller's name is returned as it is, and kept is that
// entry's name: two would overrule each other.
func Boothook(manifest []byte, c Config) (with []byte, kept string, err error) {
	if !clusterName.MatchString(c.Cluster) {
		return nil, "", fmt.Errorf("cluster name %q cannot stand in a script", c.Cluster)
	}
	if len(c.Servers) == 0 {
		return nil, "", errors.New("no addresses of the control plane to boot with")
	}
	if err := c.Validate(); err != nil {
		return nil, "", err
	}
	kind, entries, err := decodeUserData(manifest)
	if err != nil {
		return nil, "", err
	}
	if kind != "InstanceGroup" {
		return nil, "", fmt.Errorf("a boothook goes into an InstanceGroup, and this is %q", kind)
	}
	for _, e := range entries {
		switch {
		case e.isOurs():
		case strings.Contains(e.Content, "kops-controller.internal."+c.Cluster):
			return manifest, e.Name, nil
		case e.Name == bootName:
			return nil, "", fmt.Errorf("spec.additionalUserData has an entry %s that muster did not write; give it another name", bootName)
		}
	}
	without, err := removeBoothook(manifest)
	if err != nil {
		return nil, "", err
	}
	with, err = spec.Edit(without, spec.Set(appendPath(userData), map[string]any{"name": bootName, "type": bootType, "content": c.bootScript()}))
	if err != nil {
		return nil, "", err
	}
	back, err := removeBoothook(with)
	if err != nil {
		return nil, "", err
	}
	if !bytes.Equal(back, without) {
		return nil, "", errors.New("spec.additionalUserData is written in a way that uninstall could not give back; an empty list or null there can be taken out with muster edit")
	}
	return with, "", nil
}

// clusterName matches names that need no quoting in a shell and no escape in a pattern but for the dots.
var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

func removeBoothook(manifest []byte) ([]byte, error) {
	_, entries, err := decodeUserData(manifest)
	if err != nil {
		return nil, err
	}
	return spec.Edit(manifest, removals(userData, entries, userDataEntry.isOurs)...)
}

// removals returns the changes that take elements out of a list of the spec, and the list itself if nothing else was in
// it: then it did not exist before Install.
func removals[E any](list string, entries []E, ours func(E) bool) []spec.Change {
	p := appendPath(list)
	var changes []spec.Change
	for i, e := range slices.Backward(entries) {
		if ours(e) {
			changes = append(changes, spec.Remove(spec.Path{p[0], p[1], {List: true, Index: i}}))
		}
	}
	if len(changes) > 0 && len(changes) == len(entries) {
		return []spec.Change{spec.Remove(p[:2])}
	}
	return changes
}

// bootScript returns the boothook. It only ever appends, so that no line of the file can be lost, and both names are on
// each line, so that neither is there without the other.
func (c Config) bootScript() string {
	api, controller := "api.internal."+c.Cluster, "kops-controller.internal."+c.Cluster
	var lines strings.Builder
	for _, a := range c.Servers {
		fmt.Fprintf(&lines, "%s\t%s %s\n", a, api, controller)
	}
	return fmt.Sprintf(`#!/bin/sh
%s
# kOps has no address of the control plane to give to this node, so nodeup finds
# it here. muster-agent keeps the block from then on.
file=/etc/hosts
if grep -v '^[[:space:]]*#' "$file" 2>/dev/null | grep -qF '%s'; then
  exit 0
fi
{
  if [ -n "$(tail -c 1 "$file" 2>/dev/null)" ]; then echo; fi
  cat <<'END'
%s
%s%s
END
} >>"$file"
`, bootMark, controller, hosts.GuardBegin, lines.String(), hosts.GuardEnd)
}
