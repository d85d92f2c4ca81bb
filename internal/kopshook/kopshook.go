// Package kopshook puts muster-agent into a kOps manifest and takes it out again:
// two fileAssets (the node's configuration, and a script that fetches the program
// and proves it by its hash) and a hook (the systemd unit), which nodeup puts on
// every node that the manifest is for.
//
// The package is pure. It reads no state store and knows no node; what the files
// do there is said in their own texts, see files.go.
//
// What callers rely on:
//
//   - every other byte of the manifest stays, and [Uninstall] gives back what
//     [Install] was given, byte for byte; a manifest in which that cannot be
//     proven is refused;
//   - the files are the same on every node and hold no secret. An agent that is
//     installed so has no identity: it takes over the addresses that kOps wrote
//     into the node's hosts file, checks them by the cluster's own certificate
//     authority, and keeps the block and a local balancer.
package kopshook

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"

	"github.com/muster-dev/muster/internal/spec"
)

// The names by which the entries are found again, whatever kOps has made of their
// order and quotes since.
const (
	configName = "muster-agent-config"
	startName  = "muster-agent-start"
	hookName   = "muster-agent"
)

// Config says what is installed.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// URL is where nodes fetch muster-agent; SHA256 is the program's hash in
	// hexadecimal digits, without which nothing is run. Required.
	URL, SHA256 string
	// Servers are addresses of API servers beside those that kOps gives a node,
	// such as the control-plane nodes' own behind a load balancer. What does not
	// prove itself by certificate is not used.
	Servers []netip.Addr
	// Workers makes the entries say that they are for the role Node, for a
	// manifest that is read by nodes of all roles.
	Workers bool
}

var (
	hash = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// plainURL has nothing that a shell or a template would take for its own.
	plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9.\-:\[\]]+/[A-Za-z0-9._~/+=,@-]+$`)
)

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		fault("no program; give the URL of a muster-agent")
	case err != nil:
		fault("the program's URL cannot be read; write it as https://HOST/PATH")
	case u.User != nil || u.RawQuery != "":
		fault("the program's URL at %s has a user or a query: every node could read that secret in the spec; serve the program without", u.Host)
	case !plainURL.MatchString(c.URL):
		fault("program %q is no plain URL; write it as https://HOST/PATH", c.URL)
	}
	if !hash.MatchString(c.SHA256) {
		fault("SHA-256 %q; want 64 hexadecimal digits, as sha256sum prints them", c.SHA256)
	}
	for _, a := range c.Servers {
		if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			fault("server %s: no address that an API server can have", a)
		}
	}
	return errors.Join(errs...)
}

// Install returns the manifest of a Cluster or an InstanceGroup with muster-agent in
// it. What an earlier Install put there is replaced.
func Install(manifest []byte, c Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	without, err := Uninstall(manifest)
	if err != nil {
		return nil, err
	}
	with, err := spec.Edit(without,
		spec.Set(path("fileAssets"), c.forRole(map[string]any{"name": configName, "path": configPath, "content": c.nodeConfig()})),
		spec.Set(path("fileAssets"), c.forRole(map[string]any{"name": startName, "path": startPath, "content": c.startScript()})),
		spec.Set(path("hooks"), c.forRole(map[string]any{"name": hookName, "useRawManifest": true, "manifest": unit()})),
	)
	if err != nil {
		return nil, err
	}
	back, err := Uninstall(with)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(back, without) {
		return nil, errors.New("spec.fileAssets or spec.hooks is written in a way that uninstall could not give back; an empty list or null there can be taken out with muster edit")
	}
	return with, nil
}

func (c Config) forRole(fields map[string]any) map[string]any {
	if c.Workers {
		fields["roles"] = []any{"Node"}
	}
	return fields
}

// entry is an element of one of the two lists, as far as it is looked at.
type entry struct {
	Name string `yaml:"name"`
}

// path is where a list's next element goes.
func path(list string) spec.Path {
	return spec.Path{{Key: "spec"}, {Key: list}, {List: true, Index: spec.Append}}
}

// Uninstall returns the manifest without what Install put there, which may be
// nothing.
func Uninstall(manifest []byte) ([]byte, error) {
	var doc struct {
		Spec struct {
			FileAssets []entry `yaml:"fileAssets"`
			Hooks      []entry `yaml:"hooks"`
		} `yaml:"spec"`
	}
	if err := spec.Decode(manifest, &doc); err != nil {
		return nil, fmt.Errorf("not a kOps manifest: %w", err)
	}
	var changes []spec.Change
	take := func(list string, entries []entry, ours ...string) {
		p := path(list)
		var places []spec.Change
		for i, e := range slices.Backward(entries) {
			if slices.Contains(ours, e.Name) {
				places = append(places, spec.Remove(spec.Path{p[0], p[1], {List: true, Index: i}}))
			}
		}
		// A list of ours alone goes as a whole: nobody else had one there.
		if len(places) > 0 && len(places) == len(entries) {
			places = []spec.Change{spec.Remove(p[:2])}
		}
		changes = append(changes, places...)
	}
	take("fileAssets", doc.Spec.FileAssets, configName, startName)
	take("hooks", doc.Spec.Hooks, hookName)
	return spec.Edit(manifest, changes...)
}
