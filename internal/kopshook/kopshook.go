// Package kopshook adds muster-agent to a kOps manifest and removes it again: two
// fileAssets (the node's configuration, and a script that fetches the program and
// verifies its hash) and a hook (the systemd unit), which nodeup installs on every
// node that the manifest applies to. Where kOps has no addresses for nodes, a boothook
// lets nodeup find the control plane; see [Boothook].
//
// The package is pure. It accesses neither the state store nor nodes; files.go and
// boothook.go have the contents of the files.
//
// Callers rely on these invariants:
//
//   - every other byte of the manifest stays, and [Uninstall] restores what
//     [Install] was given, byte for byte; a manifest for which that does not hold
//     is refused;
//   - the files are the same on every node and hold no secret. An agent installed
//     this way has no identity: it adopts the addresses that kOps wrote into the
//     node's hosts file, verifies them against the cluster's own CA, and maintains
//     the block and a local balancer.
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

// The names that identify the entries, even after kOps has reordered or requoted
// them.
const (
	configName = "muster-agent-config"
	startName  = "muster-agent-start"
	hookName   = "muster-agent"
)

// Config configures the installed agent.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// URL is where nodes fetch muster-agent; SHA256 is the program's hash, 64
	// lower-case hexadecimal digits. Nothing with another hash is run. Required.
	URL, SHA256 string
	// Servers are addresses of API servers in addition to those that kOps gives a
	// node, such as those of the control-plane nodes behind a load balancer. One
	// that cannot present a valid certificate is not used.
	Servers []netip.Addr
	// Workers restricts the entries to the role Node, for a manifest that applies to
	// nodes of all roles.
	Workers bool
}

var (
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// plainURL matches URLs without characters that a shell or a template interprets.
	plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9.\-:\[\]]+/[A-Za-z0-9._~/+=,@-]+$`)
)

// Validate returns every fault of the program and the servers, joined; none repeats
// a secret. [Install] checks Cluster, too.
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
	if !sha256Hex.MatchString(c.SHA256) {
		fault("SHA-256 %q; want 64 hexadecimal digits, as sha256sum prints them", c.SHA256)
	}
	for _, a := range c.Servers {
		if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			fault("server %s: no address that an API server can have", a)
		}
	}
	return errors.Join(errs...)
}

// Install returns the manifest of a Cluster or an InstanceGroup with muster-agent
// added. An earlier installation is replaced, its [Boothook] included.
func Install(manifest []byte, c Config) ([]byte, error) {
	if c.Cluster == "" {
		return nil, errors.New("no cluster name: no agent would start without one")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	without, err := Uninstall(manifest)
	if err != nil {
		return nil, err
	}
	with, err := spec.Edit(without,
		spec.Set(appendPath("fileAssets"), c.forRole(map[string]any{"name": configName, "path": configPath, "content": c.nodeConfig()})),
		spec.Set(appendPath("fileAssets"), c.forRole(map[string]any{"name": startName, "path": startPath, "content": c.startScript()})),
		spec.Set(appendPath("hooks"), c.forRole(map[string]any{"name": hookName, "useRawManifest": true, "manifest": agentUnit()})),
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

// entry is the part of a list element that identifies it.
type entry struct {
	Name string `yaml:"name"`
}

// appendPath returns the path of a list's next element.
func appendPath(list string) spec.Path {
	return spec.Path{{Key: "spec"}, {Key: list}, {List: true, Index: spec.Append}}
}

// Uninstall returns the manifest without what Install and [Boothook] added, if anything.
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
	named := func(names ...string) func(entry) bool {
		return func(e entry) bool { return slices.Contains(names, e.Name) }
	}
	changes := removals("fileAssets", doc.Spec.FileAssets, named(configName, startName))
	changes = append(changes, removals("hooks", doc.Spec.Hooks, named(hookName))...)
	without, err := spec.Edit(manifest, changes...)
	if err != nil {
		return nil, err
	}
	return removeBoothook(without)
}
