package auditcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/audit/workload"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/kubeapi"
)

// gatherAudit reads what an audit judges. unseen is why something could not be looked at
// that should have been: the audit goes on without it, and ends in failure.
func gatherAudit(ctx context.Context, s console.Streams, o auditOptions) (in audit.Input, unseen, err error) {
	if o.file != "" {
		return gatherManifest(ctx, s, o)
	}
	var api *kubeapi.Client
	if o.kube != (kubeapi.Config{}) { // a wrong kubeconfig is reported before anything is asked
		if api, err = kubeapi.Open(o.kube); err != nil {
			return in, nil, err
		}
		defer api.Close()
	}
	if in, err = gatherStore(ctx, s, o); err != nil {
		return in, nil, err
	}
	seen, blind, err := statestore.Look(ctx, s, in.Spec, statestore.CloudTimeout)
	if blind != "" {
		unseen = fmt.Errorf("could not look: %s", blind)
	}
	if in.Cloud = seen; err != nil || api == nil {
		return in, unseen, err
	}
	var unheard error
	in.Workloads, unheard, err = gatherWorkloads(ctx, s, api, in.Spec.Name)
	return in, errors.Join(unseen, unheard), err
}

// gatherStore reads what the state store holds.
func gatherStore(ctx context.Context, s console.Streams, o auditOptions) (in audit.Input, err error) {
	kept, err := o.Stored(ctx, s)
	if err != nil {
		return in, err
	}
	in = kept.Audit()
	if in.Manifest, err = audit.ReadManifest(kept.Manifest); err != nil {
		return in, console.UsageError{Err: err}
	}
	in.Version = cmp.Or(o.version, in.Version)
	return in, nil
}

func gatherManifest(ctx context.Context, s console.Streams, o auditOptions) (in audit.Input, unseen, err error) {
	m, err := s.ReadManifest(ctx, o.file)
	if err != nil {
		return in, nil, err
	}
	if in.Manifest, err = audit.ReadManifest(m.Data); err != nil {
		return in, nil, console.Usagef("%s: %w", m.Name, err)
	}
	in.Spec, in.Version = m.Spec, o.version
	return in, nil, nil
}

// apiTimeout bounds what an audit asks of the cluster's API.
const apiTimeout = time.Minute

// gatherWorkloads looks at pods. If they cannot be read, found has a gap and unseen says
// why.
func gatherWorkloads(ctx context.Context, s console.Streams, api *kubeapi.Client, cluster string) (found *audit.Workloads, unseen, err error) {
	if console.IsTerminal(s.Err) {
		fmt.Fprintf(s.Err, "muster: looking at pods through %s ...\n", api.Base.Host)
	}
	asking, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	found, err = workload.Read(asking, api, cluster)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil:
		gap := cloud.Gap{What: "pods", Why: err.Error()}
		return &audit.Workloads{Gaps: []cloud.Gap{gap}}, fmt.Errorf("could not look through the API server %s: %w", api.Base.Host, err), nil
	}
	return found, nil, nil
}
