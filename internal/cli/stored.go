package cli

import (
	"context"
	"fmt"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
)

// stored is a cluster as its state store has it.
type stored struct {
	spec     *cluster.Cluster
	manifest []byte // the spec's text
	version  string // of kOps, or empty
	// configs are the node configurations, by group. One that is missing is not
	// there, unless a gap says that it could not be read.
	configs map[string][]byte
	addons  []audit.Addon // of the bootstrap channel; nil, with a gap, if it could not be read
	gaps    []cloud.Gap
}

// storeReaders bounds how many objects are read at a time.
const storeReaders = 8

// stored reads a cluster from its state store. It fails if the spec cannot be
// read or the store not be listed; another object that cannot be read is a gap.
func (f *stateFlags) stored(ctx context.Context, s streams) (*stored, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	st, err := f.open(ctx, s)
	if err != nil {
		return nil, err
	}
	kept, err := store.Read(ctx, st, f.name)
	if err != nil {
		return nil, err
	}
	out := &stored{manifest: kept.Manifest(), version: kept.KopsVersion, configs: map[string][]byte{}}
	if out.spec, err = kept.Parse(); err != nil {
		return nil, err
	}
	if err := out.nodeConfigs(ctx, st, f.name); err != nil {
		return nil, err
	}
	out.channel(ctx, st, f.name)
	return out, nil
}

// nodeConfigs reads what nodes read when they boot. The list is complete, so that
// a group without an object has none.
func (o *stored) nodeConfigs(ctx context.Context, st store.Store, name string) error {
	keys, err := st.List(ctx, store.Layout(name).NodeConfigs())
	if err != nil {
		return fmt.Errorf("list node configurations of %s: %w", name, err)
	}
	objects := make([][]byte, len(keys))
	faults := make([]error, len(keys))
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(storeReaders)
	for i, key := range keys {
		if path.Base(key) != "nodeupconfig.yaml" {
			continue
		}
		g.Go(func() error {
			object, err := st.Get(reading, key)
			if faults[i] = err; err == nil {
				objects[i] = object.Data
			}
			return reading.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read node configurations of %s: %w", name, err)
	}
	for i, key := range keys {
		group := path.Base(path.Dir(key)) // igconfig/ROLE/GROUP/nodeupconfig.yaml
		switch {
		case faults[i] != nil:
			o.gaps = append(o.gaps, cloud.Gap{What: "node configuration", Subject: group, Why: faults[i].Error()})
		case objects[i] != nil:
			o.configs[group] = objects[i]
		}
	}
	return nil
}

// channel reads which add-ons the control plane applies.
func (o *stored) channel(ctx context.Context, st store.Store, name string) {
	key := store.Layout(name).BootstrapChannel()
	object, err := st.Get(ctx, key)
	if err == nil {
		o.addons, err = audit.ReadChannel(object.Data)
	}
	if err != nil {
		o.gaps = append(o.gaps, cloud.Gap{What: "add-ons", Subject: key, Why: err.Error()})
	}
}
