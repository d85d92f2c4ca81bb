package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
)

// cloudTimeout bounds what an audit asks of a cloud.
const cloudTimeout = 2 * time.Minute

// gatherAudit reads what an audit judges. unseen is why something that should be
// there could not be looked at: the audit goes on without, and ends in failure.
func gatherAudit(ctx context.Context, s streams, o auditOptions) (in audit.Input, unseen, err error) {
	if o.file != "" {
		return gatherManifest(o)
	}
	if in, err = gatherStore(ctx, s, o); err != nil {
		return in, nil, err
	}
	seen, blind, err := look(ctx, s, in.Spec, cloudTimeout)
	if blind != "" {
		unseen = fmt.Errorf("could not look: %s", blind)
	}
	in.Cloud = seen
	return in, unseen, err
}

// gatherStore reads what the state store holds.
func gatherStore(ctx context.Context, s streams, o auditOptions) (in audit.Input, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	st, err := o.open(ctx, s)
	if err != nil {
		return in, err
	}
	kept, err := store.Read(ctx, st, o.name)
	if err != nil {
		return in, err
	}
	if in.Spec, err = kept.Parse(); err != nil {
		return in, err
	}
	if in.Manifest, err = audit.ReadManifest(kept.Manifest()); err != nil {
		return in, usageError{err}
	}
	in.Version = cmp.Or(o.version, kept.KopsVersion)
	in.Store, err = auditStore(ctx, st, o.name)
	return in, err
}

func gatherManifest(o auditOptions) (in audit.Input, unseen, err error) {
	data, err := os.ReadFile(o.file)
	if err != nil {
		return in, nil, usagef("cannot read the cluster's manifest: %w", err)
	}
	if in.Spec, err = cluster.Parse(o.file, data); err != nil {
		return in, nil, err
	}
	if in.Manifest, err = audit.ReadManifest(data); err != nil {
		return in, nil, usagef("%s: %w", o.file, err)
	}
	in.Version = o.version
	return in, nil, nil
}

// storeReaders bounds how many objects are read at a time.
const storeReaders = 8

// auditStore reads node configurations and add-ons. An object that cannot be
// read is a gap; the store itself has answered before.
func auditStore(ctx context.Context, st store.Store, name string) (*audit.Store, error) {
	layout := store.Layout(name)
	facts := &audit.Store{NodeConfigs: map[string]audit.NodeConfig{}}
	keys, err := st.List(ctx, layout.NodeConfigs())
	if err != nil {
		return nil, fmt.Errorf("list node configurations of %s: %w", name, err)
	}
	// The list is complete, so that a group without a key has no configuration.
	found := make([]func(), len(keys))
	g, readCtx := errgroup.WithContext(ctx)
	g.SetLimit(storeReaders)
	for i, key := range keys {
		parts := strings.Split(strings.TrimPrefix(key, layout.NodeConfigs()+"/"), "/")
		if len(parts) != 3 || parts[2] != "nodeupconfig.yaml" {
			continue
		}
		g.Go(func() error {
			o, err := st.Get(readCtx, key)
			found[i] = func() {
				if err != nil {
					facts.Gaps = append(facts.Gaps, cloud.Gap{What: "node configuration", Subject: parts[1], Why: err.Error()})
					return
				}
				sum := sha256.Sum256(o.Data)
				facts.NodeConfigs[parts[1]] = audit.NodeConfig{Hash: base64.StdEncoding.EncodeToString(sum[:])}
			}
			return readCtx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("read node configurations of %s: %w", name, err)
	}
	for _, note := range found {
		if note != nil {
			note()
		}
	}
	auditAddons(ctx, st, layout, facts)
	return facts, nil
}

func auditAddons(ctx context.Context, st store.Store, layout store.Layout, facts *audit.Store) {
	o, err := st.Get(ctx, layout.BootstrapChannel())
	switch {
	case errors.Is(err, store.ErrNotFound):
		facts.Addons = []audit.Addon{}
		return
	case err == nil:
		facts.Addons, err = audit.ReadChannel(o.Data)
	}
	if err != nil {
		facts.Gaps = append(facts.Gaps, cloud.Gap{What: "add-ons", Subject: layout.BootstrapChannel(), Why: err.Error()})
	}
}
