package hetzner

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
)

// metadataURL is where every server of Hetzner can ask about itself.
const metadataURL = "http://169.254.169.254/hetzner/v1/metadata"

// selfTimeout is how long the metadata service and the API may take together.
const selfTimeout = 30 * time.Second

// Self asks the metadata service which server this is and the API what its
// labels say; the Cluster of the configuration is not looked at.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	ctx, cancel := context.WithTimeout(ctx, selfTimeout)
	defer cancel()
	t := c.HTTP
	if t.Base == nil {
		t.Base = rest.Direct()
	}
	t.Routes = []rest.Route{{Method: "GET", Path: "/metadata/instance-id", Action: "metadata instance-id"}}
	base := c.Metadata
	if base == "" {
		base = metadataURL
	}
	id, err := t.Fetch(ctx, base+"/instance-id", nil)
	if err != nil {
		return cloud.Self{}, rest.Classify("ask which server this is", err)
	}
	c.Cluster = "unknown"
	p, err := New(c)
	if err != nil {
		return cloud.Self{}, err
	}
	server, _, err := p.client.Server.Get(ctx, strings.TrimSpace(string(id)))
	if err != nil {
		return cloud.Self{}, rest.Classify(fmt.Sprintf("get server %s", id), err)
	}
	if server == nil {
		return cloud.Self{}, fmt.Errorf("get server %s: %w", id, cloud.ErrNotFound)
	}
	name := server.Labels[labelCluster]
	if name == "" {
		return cloud.Self{}, fmt.Errorf("server %s: %w: it has no label %s", id, cloud.ErrUsage, labelCluster)
	}
	m := machine(server)
	return cloud.Self{Cluster: name, Name: m.ID, Addr: m.Addr}, nil
}
