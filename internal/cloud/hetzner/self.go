package hetzner

import (
	"cmp"
	"context"
	"fmt"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.169.254/hetzner/v1/metadata"

// Self identifies this server from its metadata and, by the API, its labels. The configuration's Cluster is ignored.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	got, err := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP}.All(ctx, "instance-id")
	if err != nil {
		return cloud.Self{}, err
	}
	id := got[0]
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	c.Cluster = "unknown"
	p, err := New(c)
	if err != nil {
		return cloud.Self{}, err
	}
	server, _, err := p.client.Server.Get(ctx, id)
	if err != nil {
		return cloud.Self{}, rest.Classify("get server "+id, err)
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
