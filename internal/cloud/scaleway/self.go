package scaleway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/scaleway/scaleway-sdk-go/api/instance/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.42.42"

// Self identifies this server from its metadata; its address comes from the region's IPAM.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	got, err := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP}.All(ctx, "conf?format=json")
	if err != nil {
		return cloud.Self{}, err
	}
	var conf struct {
		ID       string   `json:"id"`
		Tags     []string `json:"tags"`
		Location struct {
			Zone string `json:"zone_id"`
		} `json:"location"`
	}
	if err := json.Unmarshal([]byte(got[0]), &conf); err != nil {
		return cloud.Self{}, rest.Classify("read the metadata of this server", err)
	}
	c.Cluster = tagValue(conf.Tags, tagCluster)
	if c.Cluster == "" {
		return cloud.Self{}, fmt.Errorf("server %s: %w: it has no tag %s", conf.ID, cloud.ErrUsage, tagCluster)
	}
	server := &instance.Server{ID: conf.ID, Zone: scw.Zone(conf.Location.Zone)}
	p, err := New(c)
	if err != nil {
		return cloud.Self{}, err
	}
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	addrs, err := p.addrs(ctx, []*instance.Server{server})
	if err != nil {
		return cloud.Self{}, err
	}
	return cloud.Self{Cluster: c.Cluster, Name: conf.ID, Addr: addrs[conf.ID]}, nil
}
