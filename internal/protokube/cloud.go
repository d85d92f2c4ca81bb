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

// Cloud is asked for what flags leave open, as protokube asks it.
type Cloud interface {
	// Self says which instance this is, and of which cluster.
	Self(ctx context.Context) (cloud.Self, error)
	// Seeds returns the addresses of a cluster's control plane.
	Seeds(ctx context.Context, cluster string) ([]netip.Addr, error)
}

// Clouds are those that can be asked, by the names that kOps gives them.
type Clouds map[cluster.Cloud]Cloud

// check reports a name that is none of kOps's. Metal is one, and has nobody to ask.
func (all Clouds) check(name cluster.Cloud) error {
	if _, ok := all[name]; ok || name == "" || name == cluster.Metal {
		return nil
	}
	known := slices.Sorted(maps.Keys(all))
	return fmt.Errorf("--cloud %q: kOps gossips on %s", name, join(append(known, cluster.Metal)))
}

// askTimeout bounds the question who this instance is.
const askTimeout = time.Minute

// missing lists the flags without which a cloud has to be asked.
func (c Config) missing() (flags []string) {
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

// complete asks the cloud for what is missing. What was given is not asked for.
func (c Config) complete(ctx context.Context, clouds Clouds) (Config, error) {
	missing := c.missing()
	if err := clouds.check(cluster.Cloud(c.Cloud)); err != nil || len(missing) == 0 {
		return c, err
	}
	give := "give " + strings.Join(missing, " and ")
	cl, ok := clouds[cluster.Cloud(c.Cloud)]
	if !ok {
		return c, fmt.Errorf("%s: there is no cloud to ask (see --cloud)", give)
	}
	if c.Node == "" || c.Cluster == "" {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		self, err := cl.Self(ctx)
		if err != nil {
			return c, &askError{fmt.Errorf("ask %s which instance this is: %w; or %s", c.Cloud, err, give)}
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

// askError is a cloud that did not answer, or not well. Later it may.
type askError struct{ error }

func (e *askError) Unwrap() error { return e.error }

// exitCode tells what a person has to mend from what may mend itself.
func exitCode(err error) int {
	if asked := (*askError)(nil); errors.As(err, &asked) && !errors.Is(err, cloud.ErrUsage) {
		return exitFailed
	}
	return exitUsage
}
