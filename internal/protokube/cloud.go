package protokube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Cloud provides what the flags leave open, as it does for protokube.
type Cloud interface {
	// Self returns this instance's name and cluster.
	Self(ctx context.Context) (cloud.Self, error)
	// Seeds returns the addresses of a cluster's control plane.
	Seeds(ctx context.Context, cluster string) ([]netip.Addr, error)
}

// Clouds are the supported clouds, by kOps's names.
type Clouds map[cluster.Cloud]Cloud

// check returns an error unless name is a cloud of kOps. Metal is valid, but there is nothing to query.
func (all Clouds) check(name cluster.Cloud) error {
	if _, ok := all[name]; ok || name == "" || name == cluster.Metal {
		return nil
	}
	known := slices.Sorted(maps.Keys(all))
	return fmt.Errorf("--cloud %q: kOps gossips on %s", name, join(append(known, cluster.Metal)))
}

// selfTimeout bounds Cloud.Self.
const selfTimeout = time.Minute

// missingFlags returns the flags that were not given and that a cloud has to make up for.
func (c Config) missingFlags() (flags []string) {
	if c.Cluster == "" {
		flags = append(flags, "--cluster")
	}
	if c.Node == "" {
		flags = append(flags, "--node-name")
	}
	asks := c.Cloud != "" && c.Cloud != string(cluster.Metal)
	if asks && len(c.Seeds) == 0 && c.SeedsFile == "" {
		flags = append(flags, "--seeds")
	}
	return flags
}

// completeFromCloud queries the cloud for what was not given, and for nothing else.
func (c Config) completeFromCloud(ctx context.Context, clouds Clouds) (Config, error) {
	missing := c.missingFlags()
	if err := clouds.check(cluster.Cloud(c.Cloud)); err != nil || len(missing) == 0 {
		return c, err
	}
	give := "give " + strings.Join(missing, " and ")
	cl, ok := clouds[cluster.Cloud(c.Cloud)]
	if !ok {
		return c, fmt.Errorf("%s: there is no cloud to ask (see --cloud)", give)
	}
	if c.Node == "" || c.Cluster == "" {
		ctx, cancel := context.WithTimeout(ctx, selfTimeout)
		defer cancel()
		self, err := cl.Self(ctx)
		if err != nil {
			return c, &cloudError{fmt.Errorf("ask %s which instance this is: %w; or %s", c.Cloud, err, give)}
		}
		if c.Node == "" {
			c.Node = self.Name
		}
		if c.Cluster == "" {
			c.Cluster = self.Cluster
		}
	}
	if len(c.Seeds) == 0 && c.SeedsFile == "" {
		name := c.Cluster
		c.cloudSeeds = func(ctx context.Context) ([]netip.Addr, error) { return cl.Seeds(ctx, name) }
	}
	return c, nil
}

// cloudError says that the cloud did not answer, or with an error. A retry may succeed.
type cloudError struct{ error }

func (e *cloudError) Unwrap() error { return e.error }

// exitCode tells bad input from failures that may go away by themselves.
func exitCode(err error) int {
	if asked := (*cloudError)(nil); errors.As(err, &asked) && !errors.Is(err, cloud.ErrUsage) {
		return exitFailed
	}
	return exitUsage
}
