// Package kopstest stands in for what a roll on AWS meets beside AWS itself: the
// kops binary, and machines that boot. With moto for AWS and package kubetest for
// Kubernetes it makes a cluster whose nodes join only if they really would. It is
// for tests only.
//
// # What the stand-in kops does
//
// [Main] behaves as kOps 1.36.2 does for `version`, `update cluster` and
// `rolling-update cluster`, or as 1.35.2 with MUSTER_KOPS_VERSION=1.35.2:
//
//   - --instance-group-roles limits launch templates and node configurations, and
//     nothing else.
//   - The workers' role is narrowed at once, whichever groups were named, unless
//     --lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges. 1.35 makes it
//     broad again.
//   - With a network load balancer, 1.36 puts port 3988 on it, and the templates of
//     workers get its addresses as APIServerIPs and servers. Where no address is
//     known they get the name, which nothing resolves.
//   - With DNS type None the add-on dns-controller becomes an empty manifest that
//     prunes; otherwise it is there.
//   - The node configuration says usesLegacyGossip and usesNoneDNS, and a template
//     pins its hash, so that a change of topology alone is a new generation.
//   - It refuses a cluster that a newer kOps has updated, unless
//     --allow-kops-downgrade is given.
//   - It writes a kubeconfig unless --create-kube-config=false; a test has none to
//     lose, so the stand-in refuses instead.
//   - A flag that kOps does not know, of that command, is an error; so is a role.
//   - The rules by which workers reach the control plane, gossip's ports among
//     them, are there whatever the topology is: 1.36.2 renders them for DNS type
//     None as well.
//   - Everything is in place when it ends, and running it again changes nothing.
//
// MUSTER_KOPS_FAIL=half makes an update exit 1 between the role and the templates,
// after it has printed a secret as kOps does when it shows differences.
package kopstest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws/awstest"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

// Site is where the stand-in applies what it renders.
type Site interface {
	Observe(ctx context.Context) (*cloud.Observation, error)
	Expose(ctx context.Context, balancer string) error
	PutPolicy(ctx context.Context, role, name, document string) error
	Terminate(ctx context.Context, id string) error
	// Render makes a version of a group's launch template, and the one that the
	// next instance is made from.
	Render(ctx context.Context, g cloud.Group, userData string) error
	// OpenPorts lets workers reach the control plane where kOps's rules do.
	OpenPorts(ctx context.Context) error
}

// Kops is the stand-in.
type Kops struct {
	Version string // of kOps, such as 1.36.2
	Store   store.Store
	// Open leads to a cluster's cloud.
	Open func(ctx context.Context, cluster string) (Site, error)
	// Half makes an update fail between the role and the templates.
	Half bool
}

// Main is the stand-in's main function: arguments without the program's name, and
// the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	k := Kops{Version: cmp.Or(os.Getenv("MUSTER_KOPS_VERSION"), "1.36.2"), Open: openAWS, Half: os.Getenv("MUSTER_KOPS_FAIL") == "half"}
	var err error
	if len(args) == 0 || args[0] != "version" {
		k.Store, err = open.Store(ctx, os.Getenv("KOPS_STATE_STORE"), open.Config{Getenv: os.Getenv})
	}
	if err == nil {
		err = k.Run(ctx, args, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "Error:", err)
		return 1
	}
	return 0
}

// Run is one run of it.
func (k Kops) Run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "version" {
		fmt.Fprintln(stdout, k.Version)
		return nil
	}
	if len(args) < 2 || args[1] != "cluster" {
		return fmt.Errorf("unknown command %q for \"kops\"", args)
	}
	flags := flag.NewFlagSet("kops", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var (
		name      = flags.String("name", "", "")
		group     = flags.String("instance-group", "", "")
		roles     = flags.String("instance-group-roles", "", "")
		yes       = flags.Bool("yes", false, "")
		lifecycle string
		downgrade bool
		config    bool
	)
	if args[0] == "update" {
		flags.StringVar(&lifecycle, "lifecycle-overrides", "", "")
		flags.BoolVar(&downgrade, "allow-kops-downgrade", false, "")
		flags.BoolVar(&config, "create-kube-config", true, "")
	}
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	for r := range strings.SplitSeq(*roles, ",") {
		if *roles != "" && !slices.Contains([]string{"control-plane", "node", "apiserver", "bastion"}, r) {
			return fmt.Errorf("invalid instance group role %q", r)
		}
	}
	if !*yes {
		return errors.New("the stand-in has no dry run")
	}
	r := run{Kops: k, name: *name, out: stdout}
	if err := r.look(ctx); err != nil {
		return err
	}
	switch args[0] {
	case "update":
		if config {
			return errors.New("this would write to the operator's kubeconfig; give --create-kube-config=false")
		}
		if err := r.mayUpdate(ctx, downgrade); err != nil {
			return err
		}
		return r.update(ctx, *roles, strings.Contains(lifecycle, "IAMRolePolicy=ExistsAndWarnIfChanges"))
	case "rolling-update":
		return r.roll(ctx, *group)
	}
	return fmt.Errorf("unknown command %q for \"kops\"", args[0])
}

// run is one run on one cluster.
type run struct {
	Kops
	name string
	out  io.Writer
	base string // the cluster's state store as boot configurations name it
	spec *cluster.Cluster
	seen *cloud.Observation
	site Site
}

// configBase is where the spec says that the cluster's state is.
var configBase = regexp.MustCompile(`(?m)^\s+configBase: s3://(\S+)$`)

func (k *run) look(ctx context.Context) error {
	kept, err := store.Read(ctx, k.Store, k.name)
	if err != nil {
		return err
	}
	if k.spec, err = kept.Parse(); err != nil {
		return err
	}
	base := configBase.FindSubmatch(kept.Manifest())
	if base == nil {
		return errors.New("the spec names no configBase")
	}
	k.base = string(base[1])
	if k.site, err = k.Open(ctx, k.name); err != nil {
		return err
	}
	k.seen, err = k.site.Observe(ctx)
	return err
}

// gossips is kOps's decision on who gossips.
func (k *run) gossips() bool { return !k.spec.UsesNoneDNS() }

// balancer returns the network load balancer, if kops-controller is behind it.
func (k *run) balancer() (lb cloud.LoadBalancer, uses bool) {
	for _, lb := range k.seen.LoadBalancers {
		if lb.Class == "network" && (!k.gossips() || strings.HasPrefix(k.Version, "1.36")) {
			return lb, true
		}
	}
	return cloud.LoadBalancer{}, false
}

// mayUpdate refuses what a newer kOps has updated.
func (k *run) mayUpdate(ctx context.Context, downgrade bool) error {
	last, err := k.Store.Get(ctx, store.Layout(k.name).KopsVersion())
	if errors.Is(err, store.ErrNotFound) || downgrade {
		return nil
	}
	if err != nil {
		return err
	}
	was, err := cluster.ParseRelease(strings.TrimSpace(string(last.Data)))
	if err != nil {
		return err
	}
	if is, err := cluster.ParseRelease(k.Version); err != nil || is < was {
		return errors.Join(err, errors.New("kops version older than last used to update the cluster"))
	}
	return nil
}

func (k *run) update(ctx context.Context, roles string, keepRole bool) error {
	chosen := func(r cluster.Role) bool {
		return roles == "" || slices.ContainsFunc(strings.Split(roles, ","), func(s string) bool {
			return strings.EqualFold(strings.ReplaceAll(s, "-", ""), string(r))
		})
	}
	if err := k.site.OpenPorts(ctx); err != nil {
		return err
	}
	lb, uses := k.balancer()
	if err := k.role(ctx, uses, keepRole); err != nil {
		return err
	}
	if uses {
		if err := k.site.Expose(ctx, lb.ID); err != nil {
			return err
		}
	}
	if err := k.addons(ctx); err != nil {
		return err
	}
	if k.Half {
		fmt.Fprintln(k.out, "  UserData:  export S3_SECRET_ACCESS_KEY=kept-from-everybody")
		return errors.New("error running tasks: deadline exceeded executing task LaunchTemplate")
	}
	for _, g := range k.seen.Groups {
		if (g.Role == cluster.RoleNode || g.Role == cluster.RoleControlPlane) && chosen(g.Role) {
			if err := k.group(ctx, g, lb, uses); err != nil {
				return err
			}
		}
	}
	if err := k.put(ctx, store.Layout(k.name).KopsVersion(), []byte(k.Version)); err != nil {
		return err
	}
	fmt.Fprintln(k.out, "Cluster changes have been applied to the cloud.")
	return nil
}

// put writes an object over whatever is there.
func (k *run) put(ctx context.Context, key string, data []byte) error {
	_, err := k.Store.Put(ctx, key, data, store.Any)
	return err
}

// The workers' policies of two releases, as far as gossip is concerned.
const (
	narrow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeInstanceTypes"],"Resource":"*"}]}`
	broad  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*"],"Resource":["arn:aws:s3:::%[1]s/cluster-completed.spec","arn:aws:s3:::%[1]s/igconfig/node/*"]},{"Effect":"Allow","Action":["ec2:DescribeInstances","ec2:DescribeInstanceTypes"],"Resource":"*"}]}`
)

func (k *run) role(ctx context.Context, uses, keep bool) error {
	if keep {
		return nil
	}
	for _, r := range k.seen.Roles {
		if !slices.Contains(r.Roles, cluster.RoleNode) {
			continue
		}
		policy := fmt.Sprintf(broad, k.base)
		if uses {
			policy = narrow
		}
		if err := k.site.PutPolicy(ctx, r.Name, r.Name, policy); err != nil {
			return err
		}
	}
	return nil
}

// dnsEntry is the channel's entry of dns-controller with its hash.
var dnsEntry = regexp.MustCompile(`(?s)(manifest: dns-controller\.addons\.k8s\.io/k8s-1\.12\.yaml\n\s*manifestHash: )[0-9a-f]+`)

func (k *run) addons(ctx context.Context) error {
	layout := store.Layout(k.name)
	manifest := []byte("kind: Deployment\nmetadata:\n  name: dns-controller\n")
	if !k.gossips() {
		manifest = nil
	}
	sum := sha256.Sum256(manifest)
	if err := k.put(ctx, layout.Addons()+"/dns-controller.addons.k8s.io/k8s-1.12.yaml", manifest); err != nil {
		return err
	}
	channel, err := k.Store.Get(ctx, layout.BootstrapChannel())
	if errors.Is(err, store.ErrNotFound) {
		channel.Data = []byte("kind: Addons\nspec:\n  addons:\n  - name: dns-controller.addons.k8s.io\n    manifest: dns-controller.addons.k8s.io/k8s-1.12.yaml\n    manifestHash: 00\n")
	} else if err != nil {
		return err
	}
	return k.put(ctx, layout.BootstrapChannel(), dnsEntry.ReplaceAll(channel.Data, []byte("${1}"+hex.EncodeToString(sum[:]))))
}

var topologyLines = regexp.MustCompile(`(?m)^(usesLegacyGossip|usesNoneDNS): .*\n?`)

// group renders one group: its node configuration, then its template.
func (k *run) group(ctx context.Context, g cloud.Group, lb cloud.LoadBalancer, uses bool) error {
	dir, role := "node", "Node"
	if g.Role == cluster.RoleControlPlane {
		dir, role = "control-plane", "ControlPlane"
	}
	key := store.Layout(k.name).NodeConfig(dir, g.Name)
	old, err := k.Store.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	text := topologyLines.ReplaceAllString(string(old.Data), "")
	text = strings.TrimRight(text, "\n") + fmt.Sprintf("\nusesLegacyGossip: %v\nusesNoneDNS: %v\n", k.gossips(), !k.gossips())
	if err := k.put(ctx, key, []byte(text)); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(text))
	u := awstest.UserData{Cluster: k.name, State: k.base, Release: k.Version, Group: g.Name, Role: role, Hash: base64.StdEncoding.EncodeToString(sum[:])}
	if g.Role == cluster.RoleNode && uses {
		for _, a := range lb.Addresses {
			if a.IsPrivate() {
				u.Addresses = append(u.Addresses, a.String())
			}
		}
		u.ByName = len(u.Addresses) == 0
	}
	if userData := u.String(); g.Template.Hash != bootconfig.Hash([]byte(userData)) {
		fmt.Fprintf(k.out, "  LaunchTemplate/%s\n", g.ID)
		return k.site.Render(ctx, g, userData)
	}
	return nil
}

// roll replaces every instance of a group that is not of its template of now.
func (k *run) roll(ctx context.Context, group string) error {
	for _, g := range k.seen.Groups {
		if g.Name != group {
			continue
		}
		for _, i := range g.Instances {
			if i.Generation == cloud.GenerationNew {
				continue
			}
			fmt.Fprintf(k.out, "Stopping instance %q, in group %q.\n", i.ID, g.ID)
			if err := k.site.Terminate(ctx, i.ID); err != nil {
				return err
			}
		}
		fmt.Fprintf(k.out, "Rolling update completed for cluster %q!\n", k.name)
		return nil
	}
	return fmt.Errorf("instance group %q not found", group)
}
