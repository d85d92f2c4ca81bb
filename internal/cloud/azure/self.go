package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.169.254/metadata"

// instance is a machine's metadata document.
type instance struct {
	Compute struct {
		Name              string
		SubscriptionID    string
		ResourceGroupName string
		TagsList          []struct{ Name, Value string }
	}
	Network struct {
		Interface []struct {
			IPv4 struct {
				IPAddress []struct{ PrivateIPAddress string }
			}
		}
	}
}

func readMetadata(ctx context.Context, c Config) (doc instance, err error) {
	m := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP, Header: http.Header{"Metadata": {"true"}}}
	got, err := m.All(ctx, "instance?api-version=2020-06-01")
	if err != nil {
		return doc, err
	}
	return doc, rest.Classify("read the metadata of this machine", json.Unmarshal([]byte(got[0]), &doc))
}

// Self identifies this machine from its metadata, without a login.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	doc, err := readMetadata(ctx, c)
	if err != nil {
		return cloud.Self{}, err
	}
	self := cloud.Self{Name: doc.Compute.Name}
	for _, t := range doc.Compute.TagsList {
		if t.Name == tagCluster {
			self.Cluster = t.Value
		}
	}
	if self.Cluster == "" {
		return cloud.Self{}, fmt.Errorf("machine %s: %w: it has no tag %s", self.Name, cloud.ErrUsage, tagCluster)
	}
	for _, nic := range doc.Network.Interface {
		for _, ip := range nic.IPv4.IPAddress {
			if !self.Addr.IsValid() {
				self.Addr = survey.Addr(ip.PrivateIPAddress)
			}
		}
	}
	return self, nil
}

// Here sets the subscription and the resource group, if they are empty, to those of this machine.
func Here(ctx context.Context, c Config) (Config, error) {
	doc, err := readMetadata(ctx, c)
	if err != nil {
		return c, err
	}
	c.Subscription = cmp.Or(c.Subscription, doc.Compute.SubscriptionID)
	c.ResourceGroup = cmp.Or(c.ResourceGroup, doc.Compute.ResourceGroupName)
	return c, nil
}
