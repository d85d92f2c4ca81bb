package migratecmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	cloudopen "github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/labctl"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/byhand"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/bylab"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/vantage"
)

// executorFlags configure the executor and the measuring. Which of them matter depends
// on the plan, which names its executor.
type executorFlags struct {
	kops       string
	kopsBefore string
	kubeconfig string
	context    string
	targetDir  string
	confirmed  []string
	probeImage string
	probeEvery time.Duration
	interval   time.Duration
	join       time.Duration
	drain      time.Duration
	apply      time.Duration
}

func (x *executorFlags) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&x.kops, "kops", "", "the kops `binary` that applies the cluster; a script has to exec it, or it outlives a muster that is killed (default: $KOPS, then PATH)")
	f.StringVar(&x.kopsBefore, "kops-before", "", "the kops `binary` that made the cluster as it was, for the way back")
	f.StringVar(&x.kubeconfig, "kubeconfig", "", "`file` that leads to the cluster's API (default: $KUBECONFIG, else ~/.kube/config)")
	f.StringVar(&x.context, "context", "", "`name` of the kubeconfig's context (default: its current one)")
	f.StringVar(&x.targetDir, "target-dir", "", "`directory` that kops update cluster --target=terraform wrote, to be looked at before it is applied")
	f.StringSliceVar(&x.confirmed, "confirmed", nil, "`steps`, by name, that you have seen done, of those that no look at a cluster shows (plans via terraform)")
	f.DurationVar(&x.interval, "interval", 0, "pause between two looks at the cluster, each of which asks the cloud about twenty times (default 5s; via terraform 30s)")
	f.DurationVar(&x.join, "join-timeout", 5*time.Minute, "how long a new node may take from its start until it works; then it is removed and the run stops")
	f.DurationVar(&x.drain, "drain-timeout", 15*time.Minute, "how long one node may take to be drained, its pods' grace periods included; then the run stops")
	f.DurationVar(&x.apply, "apply-timeout", 2*time.Hour, "how long a step may take to be applied by somebody else; then the run stops (plans via terraform)")
	f.StringVar(&x.probeImage, "probe-image", "", "`image` with muster as its entry point, to measure from workers with (default: workers do not measure)")
	f.DurationVar(&x.probeEvery, "probe-interval", vantage.DefaultEvery, "pause between two probes of the API on a path; twenty are sent before anything is done")
}

// check refuses durations that make no sense.
func (x *executorFlags) check() error {
	for _, d := range []struct {
		flag string
		is   time.Duration
		zero bool // 0 is allowed
	}{{"interval", x.interval, true}, {"join-timeout", x.join, false}, {"drain-timeout", x.drain, false}, {"apply-timeout", x.apply, false}} {
		if d.is < 0 || d.is == 0 && !d.zero {
			return console.Usagef("--%s %v; want a time such as 90s or 15m", d.flag, d.is)
		}
	}
	if x.probeEvery < minInterval {
		return console.Usagef("--probe-interval %v; want %v or more", x.probeEvery, minInterval)
	}
	return nil
}

// configure sets what carries the plan out, and what measures meanwhile.
func (o *reconcileOptions) configure(ctx context.Context, cfg *reconcile.Config, st store.Store) error {
	via := cfg.Plan.Problem.Via
	if (via == plan.Lab) != (o.dir != "") {
		if via == plan.Lab {
			return console.Usagef("the plan is for a lab; name it with --dir DIR")
		}
		return console.Usagef("the plan is for %s and not for a lab; leave --dir out", via)
	}
	if via == plan.Lab {
		lab := labctl.Client{Dir: o.dir}
		executor, err := bylab.New(lab, cfg.Plan)
		if err != nil {
			return console.UsageError{Err: err}
		}
		cfg.Executor, cfg.Vantages = executor, []reconcile.Vantage{bylab.Workers{Lab: lab}}
		return nil
	}
	seen, err := stored(ctx, st, o.Name)
	if err != nil {
		return err
	}
	provider, err := cloudopen.Provider(ctx, seen.Spec, cloudopen.Config{Getenv: os.Getenv, Timeout: statestore.CloudTimeout})
	if errors.Is(err, cloud.ErrUsage) {
		return console.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	r := liveCluster{flags: o.executorFlags, state: o.State, store: st, spec: seen.Spec, before: cfg.Plan.KopsVersion(), provider: provider, problem: cfg.Plan.Problem, dry: !o.yes || o.shadow}
	if via == plan.Terraform {
		cfg.Executor = byhand.New(byhand.Config{Problem: cfg.Plan.Problem, Look: r.look, TargetDir: o.targetDir, Confirmed: o.confirmed, Within: o.apply, Every: o.interval})
	} else if cfg.Executor, o.missing, err = r.kops(ctx); err != nil {
		return err
	}
	if !r.dry {
		cfg.Vantages, cfg.Unmeasured = r.vantages(ctx)
	}
	return nil
}

// stored reads the cluster from the state store.
func stored(ctx context.Context, st store.Store, name string) (*observe.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	return observe.Stored(ctx, st, name)
}

// liveCluster is a real cluster, and how it is reached.
type liveCluster struct {
	flags    executorFlags
	state    string
	store    store.Store
	spec     *cluster.Cluster
	before   string // the version of kOps that had updated it when the plan was made
	provider cloud.Provider
	problem  plan.Problem
	dry      bool // nothing will be changed
}

// look reads the cluster as muster plan cluster does. Its caller sets the deadline.
func (r liveCluster) look(ctx context.Context) (reconcile.World, error) {
	seen, err := observe.Stored(ctx, r.store, r.spec.Name)
	if err != nil {
		return reconcile.World{}, err
	}
	if err := seen.Look(ctx, r.provider); err != nil {
		return reconcile.World{}, err
	}
	p := r.problem
	now, facts, err := seen.Problem(plan.Options{To: p.To, Via: p.Via, Endpoints: p.Endpoints, NoBridge: p.NoBridge, CreateBalancer: p.CreateBalancer, MaxAway: p.MaxAway})
	if err != nil {
		return reconcile.World{}, err
	}
	w := reconcile.World{Facts: facts, Nodes: reconcile.Living(seen.Cloud.Groups)}
	for _, s := range now.Starts {
		w.States = append(w.States, s.State)
	}
	return w, nil
}

func (r liveCluster) via() kubeapi.Config {
	return kubeapi.Config{Kubeconfig: r.flags.kubeconfig, Context: r.flags.context}
}

// kops makes the executor that works with the operator's kops. A dry run does without
// the cluster's API; missing is then why it cannot be reached.
func (r liveCluster) kops(ctx context.Context) (_ *bykops.Executor, missing, err error) {
	cfg := bykops.Config{
		Problem: r.problem, Store: r.store, Provider: r.provider, Overlay: bykops.Gossip{Spec: r.spec, Via: r.via()},
		JoinWithin: r.flags.join, DrainWithin: r.flags.drain, Poll: r.flags.interval,
	}
	cfg.Kops, cfg.NoKops = bykops.FindKops(ctx, r.flags.kops, r.state)
	if cfg.NoKops != nil && r.flags.kops != "" {
		return nil, nil, console.UsageError{Err: cfg.NoKops}
	}
	if r.flags.kopsBefore != "" {
		cfg.Before, err = bykops.FindBefore(ctx, r.flags.kopsBefore, r.state, r.problem, r.spec, r.before)
		if err != nil {
			return nil, nil, console.Usagef("--kops-before: %w", err)
		}
	}
	if client, err := r.client(); err == nil {
		cfg.Kube = client
	} else if missing = err; !r.dry {
		return nil, nil, missing
	}
	if r.spec.Cloud == cluster.AWS {
		operator, err := aws.NewOperator(ctx, aws.Config{Cluster: r.spec.Name, Region: cloudopen.Region(r.spec)})
		if err != nil {
			return nil, nil, console.UsageError{Err: err}
		}
		cfg.Machines, cfg.Infrastructure = operator, operator
	}
	executor, err := bykops.New(cfg)
	if err != nil {
		return nil, nil, console.UsageError{Err: err}
	}
	return executor, missing, nil
}

func (r liveCluster) client() (kubernetes.Interface, error) {
	api, err := kubeapi.Open(r.via())
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(api.Rest)
}

// vantages returns the places to measure from, and those that cannot measure, with
// reasons.
func (r liveCluster) vantages(ctx context.Context) (all []reconcile.Vantage, missing []report.Unmeasured) {
	unmeasured := func(vantage, why string) { missing = append(missing, report.Unmeasured{Vantage: vantage, Why: why}) }
	server := "api.internal." + r.spec.Name
	api, err := kubeapi.Open(r.via())
	var roots *x509.CertPool
	var targets []probe.Target
	if err == nil {
		roots, targets, err = r.targets(ctx, api.Rest)
	}
	if err != nil {
		unmeasured("operator", err.Error())
		return nil, missing
	}
	operator, silent, err := vantage.NewOperator(ctx, server, roots, targets, r.flags.probeEvery)
	missing = append(missing, silent...)
	if err != nil {
		unmeasured("operator", err.Error())
	} else {
		all = append(all, operator)
	}
	client, err := kubernetes.NewForConfig(api.Rest)
	switch {
	case r.flags.probeImage == "":
		unmeasured("workers", "no --probe-image was given")
	case err != nil:
		unmeasured("workers", err.Error())
	default:
		args := vantage.Args(server, append([]probe.Target{{Path: probe.ByName, Port: 443}}, workerTargets(targets)...), r.flags.probeEvery)
		for _, g := range r.spec.GroupsOf(cluster.RoleNode) {
			all = append(all, vantage.NewWorkers(vantage.Config{Client: client, Group: g.Name, Image: r.flags.probeImage, Args: args}))
		}
	}
	return all, missing
}

// workerTargets are the targets that a worker reaches the API by: private addresses, or
// all addresses of the load balancers if none is private.
func workerTargets(targets []probe.Target) (all []probe.Target) {
	for _, t := range targets {
		if t.Addr.IsValid() {
			all = append(all, t)
		}
	}
	far := func(t probe.Target) bool { return !t.Addr.Addr().IsPrivate() }
	if slices.ContainsFunc(all, func(t probe.Target) bool { return !far(t) }) {
		all = slices.DeleteFunc(all, far)
	}
	return all
}

// targets are what the operator's machine may reach the API by: the server of the
// kubeconfig first, then each address of the load balancers.
func (r liveCluster) targets(ctx context.Context, config *rest.Config) (*x509.CertPool, []probe.Target, error) {
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(config.CAData) {
		return nil, nil, errors.New("the kubeconfig has no certificate authority to check the API server by")
	}
	u, err := url.Parse(config.Host)
	if err != nil || u.Hostname() == "" {
		return nil, nil, errors.New("the kubeconfig's server is no URL")
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if err != nil {
		return nil, nil, fmt.Errorf("the kubeconfig's server has the port %q", u.Port())
	}
	targets := []probe.Target{{Path: vantage.Kubeconfig, Host: u.Hostname(), Port: uint16(port)}}
	ctx, cancel := context.WithTimeout(ctx, statestore.CloudTimeout)
	defer cancel()
	seen, err := r.provider.Observe(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, lb := range seen.LoadBalancers {
		for _, a := range lb.Addresses {
			// Each is a path of its own, so that the others do not hide one that fails.
			path := probe.LoadBalancer
			if len(lb.Addresses) > 1 {
				path = probe.Path(fmt.Sprintf("%s %s", probe.LoadBalancer, a))
			}
			targets = append(targets, probe.Target{Path: path, Addr: netip.AddrPortFrom(a, 443)})
		}
	}
	return roots, targets, nil
}
