package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.169.254"

// Self identifies this server from its metadata, without a login.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	got, err := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP}.All(ctx, "openstack/latest/meta_data.json", "latest/meta-data/local-ipv4")
	if err != nil {
		return cloud.Self{}, err
	}
	var doc struct {
		UUID string            `json:"uuid"`
		Meta map[string]string `json:"meta"`
	}
	if err := json.Unmarshal([]byte(got[0]), &doc); err != nil {
		return cloud.Self{}, rest.Classify("read the metadata of this server", err)
	}
	name := doc.Meta[metaCluster]
	if name == "" {
		return cloud.Self{}, fmt.Errorf("server %s: %w: its metadata has no %s", doc.UUID, cloud.ErrUsage, metaCluster)
	}
	return cloud.Self{Cluster: name, Name: doc.UUID, Addr: survey.Addr(got[1])}, nil
}
