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

// metadataURL is where every machine can ask about itself.
const metadataURL = "http://169.254.169.254/metadata"

// instance is what the metadata service says of a machine.
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

func look(ctx context.Context, c Config) (doc instance, err error) {
	m := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP, Header: http.Header{"Metadata": {"true"}}}
	got, err := m.All(ctx, "instance?api-version=2020-06-01")
	if err != nil {
		return doc, err
	}
	return doc, rest.Classify("read the metadata of this machine", json.Unmarshal([]byte(got[0]), &doc))
}

// Self asks the metadata service which machine this is; no login is needed.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	doc, err := look(ctx, c)
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

// Here fills in what a configuration leaves out with the subscription and the
// resource group of the machine that asks.
func Here(ctx context.Context, c Config) (Config, error) {
	doc, err := look(ctx, c)
	if err != nil {
		return c, err
	}
	c.Subscription = cmp.Or(c.Subscription, doc.Compute.SubscriptionID)
	c.ResourceGroup = cmp.Or(c.ResourceGroup, doc.Compute.ResourceGroupName)
	return c, nil
}
