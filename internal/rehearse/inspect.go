package rehearse

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/report"
)

// overlayModules and cloudModules are prefixes of modules that a node without gossip
// must not link: the gossip libraries that Muster or kOps use, and the cloud
// vendors' SDKs.
var (
	overlayModules = []string{
		"github.com/hashicorp/memberlist",
		"github.com/hashicorp/serf",
		"github.com/weaveworks/mesh",
		"github.com/jacksontj/memberlistmesh",
	}
	cloudModules = []string{
		"github.com/aws/",
		"cloud.google.com/",
		"google.golang.org/api",
		"github.com/Azure/",
		"github.com/digitalocean/",
		"github.com/hetznercloud/",
		"github.com/gophercloud/",
		"github.com/scaleway/",
	}
)

// inspectPrograms reads the linked modules from the binaries.
func inspectPrograms(p lab.Programs) ([]report.Program, error) {
	agent, err := inspect("workers in hybrid, every node in none", p.Agent)
	if err != nil {
		return nil, err
	}
	peer, err := inspect("control plane in gossip and hybrid, workers in gossip", p.Peer)
	return []report.Program{peer, agent}, err
}

func inspect(role, path string) (report.Program, error) {
	p := report.Program{Role: role, Program: filepath.Base(path), Overlays: []string{}, Clouds: []string{}}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read what %s is linked from: %w", path, err)
	}
	stat, err := os.Stat(path)
	if err != nil {
		return p, err
	}
	p.Bytes = stat.Size()
	for _, dep := range info.Deps {
		p.Modules = append(p.Modules, dep.Path+" "+dep.Version)
		if hasPrefix(dep.Path, overlayModules) {
			p.Overlays = append(p.Overlays, dep.Path)
		}
		if hasPrefix(dep.Path, cloudModules) {
			p.Clouds = append(p.Clouds, dep.Path)
		}
	}
	return p, nil
}

func hasPrefix(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
}
