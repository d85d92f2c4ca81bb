package static

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// maxFile bounds the file, in bytes: enough for ten thousand machines.
const maxFile = 1 << 20

type file struct {
	Cluster      string        `yaml:"cluster"`
	Groups       []group       `yaml:"groups"`
	LoadBalancer *loadBalancer `yaml:"loadBalancer"`
}

type group struct {
	line     int
	Name     string    `yaml:"name"`
	Role     string    `yaml:"role"`
	Machines []machine `yaml:"machines"`
}

type machine struct {
	line    int
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
	Zone    string `yaml:"zone"`
}

type loadBalancer struct {
	line      int
	Name      string   `yaml:"name"`
	Addresses []string `yaml:"addresses"`
	Ports     []int    `yaml:"ports"`
}

// fault is an error at a line of the file.
type fault struct {
	line int
	text string
}

func (f fault) Error() string { return fmt.Sprintf("%d: %s", f.line, f.text) }

func faultf(line int, format string, args ...any) error {
	return fault{line: line, text: fmt.Sprintf(format, args...)}
}

func read(c Config) (file, error) {
	f, err := os.Open(c.Path)
	if err != nil {
		kind := cloud.ErrUsage
		if errors.Is(err, fs.ErrNotExist) {
			kind = cloud.ErrNotFound
		}
		return file{}, fmt.Errorf("file of machines: %w: %w", kind, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return file{}, fmt.Errorf("file of machines: %w: %w", cloud.ErrTransient, err)
	}
	out, err := parse(data)
	if err == nil && c.Cluster != "" && c.Cluster != out.Cluster {
		err = faultf(1, "it is about cluster %q, not %q", out.Cluster, c.Cluster)
	}
	if err != nil {
		return file{}, fmt.Errorf("%s:%w (%w)", c.Path, err, cloud.ErrUsage)
	}
	return out, nil
}

// parse parses and validates a file. Its error is one line that begins with a line number.
func parse(data []byte) (file, error) {
	if len(data) > maxFile {
		return file{}, faultf(1, "it has more than %d bytes", maxFile)
	}
	var f file
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	switch err := d.Decode(&f); {
	case errors.Is(err, io.EOF):
		return file{}, faultf(1, "it is empty; it wants a cluster and groups of machines")
	case err != nil:
		return file{}, oneLine(err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return file{}, faultf(1, "it has more than one document")
	}
	f.setLines(data)
	return f, f.validate()
}

// setLines sets the line numbers for errors of validate.
func (f *file) setLines(data []byte) {
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
		return
	}
	for i, g := range listItems(doc.Content[0], "groups") {
		if i < len(f.Groups) {
			f.Groups[i].line = g.Line
			for j, m := range listItems(g, "machines") {
				if j < len(f.Groups[i].Machines) {
					f.Groups[i].Machines[j].line = m.Line
				}
			}
		}
	}
	if root := doc.Content[0]; f.LoadBalancer != nil {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if root.Content[i].Value == "loadBalancer" {
				f.LoadBalancer.line = root.Content[i].Line
			}
		}
	}
}

// listItems returns the items of the list at a key of a mapping.
func listItems(n *yaml.Node, key string) []*yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := n.Content[i+1]; n.Content[i].Value == key && v.Kind == yaml.SequenceNode {
			return v.Content
		}
	}
	return nil
}

// oneLine returns the decoder's error as a fault.
func oneLine(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:")
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	var line int
	if _, err := fmt.Sscanf(text, "line %d:", &line); err == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return fault{line: max(line, 1), text: text}
}

func (f file) validate() error {
	if f.Cluster == "" {
		return faultf(1, "cluster is missing")
	}
	groups := map[string]bool{}
	addrs := map[netip.Addr]string{}
	for _, g := range f.Groups {
		switch {
		case g.Name == "":
			return faultf(g.line, "a group has no name")
		case groups[g.Name]:
			return faultf(g.line, "group %q is there twice", g.Name)
		case survey.Role(g.Role) == "":
			return faultf(g.line, "group %q has role %q; it is one of ControlPlane, Node, APIServer, Bastion", g.Name, g.Role)
		}
		groups[g.Name] = true
		for _, m := range g.Machines {
			a, err := address(m.Address)
			if err != nil {
				return faultf(m.line, "machine %q: %v", m.Name, err)
			}
			if m.Name == "" {
				return faultf(m.line, "machine %s has no name", a)
			}
			if other, ok := addrs[a]; ok {
				return faultf(m.line, "machines %q and %q have the same address %s", other, m.Name, a)
			}
			addrs[a] = m.Name
		}
	}
	if f.LoadBalancer == nil {
		return nil
	}
	for _, text := range f.LoadBalancer.Addresses {
		if _, err := address(text); err != nil {
			return faultf(f.LoadBalancer.line, "loadBalancer: %v", err)
		}
	}
	for _, p := range f.LoadBalancer.Ports {
		if p < 1 || p > 65535 {
			return faultf(f.LoadBalancer.line, "loadBalancer: port %d is not between 1 and 65535", p)
		}
	}
	return nil
}

// address parses an address that other machines can reach.
func address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%q is no address", text)
	}
	if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
		return a, fmt.Errorf("nobody else can reach %s", a)
	}
	return a, nil
}

func (f file) machines() (out []survey.Machine) {
	for _, g := range f.Groups {
		for _, m := range g.Machines {
			out = append(out, survey.Machine{
				Instance: cloud.Instance{ID: m.Name, Name: m.Name, Addr: survey.Addr(m.Address), Zone: m.Zone, State: "listed"},
				Group:    g.Name,
				Role:     survey.Role(g.Role),
				Alive:    true,
			})
		}
	}
	return out
}

func (f file) balancers() []cloud.LoadBalancer {
	if f.LoadBalancer == nil {
		return nil
	}
	lb := cloud.LoadBalancer{ID: f.LoadBalancer.Name, Name: f.LoadBalancer.Name, Class: string(cluster.Metal), Scheme: "internal"}
	for _, text := range f.LoadBalancer.Addresses {
		a := survey.Addr(text)
		if !a.IsPrivate() {
			lb.Scheme = "public"
		}
		lb.Addresses = append(lb.Addresses, a)
	}
	for _, p := range f.LoadBalancer.Ports {
		lb.Listeners = append(lb.Listeners, cloud.Listener{Port: p, Protocol: "tcp"})
	}
	return []cloud.LoadBalancer{lb}
}
