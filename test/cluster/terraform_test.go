package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

// A migration with changes applied by someone else: the command says what to do and changes nothing.
func TestClusterReconcilesViaTerraform(t *testing.T) {
	s := newScene(t, "gossip-1.35")
	before := instances(s.observe().Cloud)
	s.do(0, "plan", "cluster", "--to", "none", "--via", "terraform", "-o", "plan.json")
	p := newPipeline(s, "plan.json")
	run := []string{"reconcile", "cluster", "--plan", "plan.json", "--yes", "--interval", "1s", "--probe-interval", "100ms"}

	s.wantStop(func() *command { return s.muster(nil, append(slices.Clone(run), "--apply-timeout", "20s")...) },
		"to do: expose port 3988 on the load balancer", "nobody applied step 1 (expose) within 20s; still missing: the configuration service answers through the load balancer", "the run goes on from here when it is started again")

	confirmed := regexp.MustCompile(`go on with: .* --confirmed (\S+)`)
	for range 20 {
		c := s.muster(nil, run...)
		p.applyRequested(c)
		code, output := c.wait(), c.output()
		m := confirmed.FindStringSubmatch(output)
		switch {
		case code == 0:
			s.wantReplaced(before, cluster.RoleNode)
			s.wantReplaced(before, cluster.RoleControlPlane)
			s.nothingGossips()
			s.checkReport(s.report(), 3, 3)
			return
		case code == 3 && m != nil:
			p.apply(m[1])
			run = append(run, "--confirmed", m[1])
		case code == 3 && strings.Contains(output, "muster: hold before step"):
			s.do(0, "reconcile", "release")
		case c.starved():
		default:
			s.Fatalf("muster exits %d; want 0, or 3 at a hold and where a word of the operator's is wanted", code)
		}
	}
	s.Fatal("it stopped more often than a plan has steps")
}

// pipeline emulates an operator with Terraform, by the stand-in kops and the cloud's API.
type pipeline struct {
	s        *scene
	operator *aws.Operator
	kops     string
	ids      map[string]string // steps of the plan, by title
}

func newPipeline(s *scene, file string) *pipeline {
	s.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		s.Fatal(err)
	}
	f, err := plan.Read(s.Context(), file, data, s.name)
	if err != nil {
		s.Fatal(err)
	}
	p := &pipeline{s: s, ids: make(map[string]string)}
	for _, step := range f.Steps {
		p.ids[step.Title] = step.ID
	}
	if p.operator, err = aws.NewOperator(s.Context(), aws.Config{Cluster: s.name, Backoff: 20 * time.Millisecond}); err != nil {
		s.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	p.kops = filepath.Join(s.TempDir(), "kops")
	if err := os.Symlink(self, p.kops); err != nil {
		s.Fatal(err)
	}
	return p
}

var todo = regexp.MustCompile(`(?m)^ *to do: (.+)$`)

// applyRequested applies the steps that a command asks for, until it ends.
func (p *pipeline) applyRequested(c *command) {
	p.s.Helper()
	done := 0
	for {
		requests := todo.FindAllStringSubmatch(c.output(), -1)
		for _, m := range requests[done:] {
			id, ok := p.ids[strings.TrimSpace(m[1])]
			if !ok {
				p.s.Fatalf("asked for %q, which is no step of the plan", m[1])
			}
			p.apply(id)
		}
		done = len(requests)
		select {
		case <-c.ended:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// apply applies a step, like Terraform with -target: only its resources change, and the workers' role only in its own step.
func (p *pipeline) apply(id string) {
	s := p.s
	s.Helper()
	s.Logf("the pipeline applies %s", id)
	const keepRole = "--lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges"
	seen := s.observe().Cloud
	var err error
	switch id {
	case "prove": // seen from a worker, by hand
	case "expose":
		err = p.operator.Expose(s.Context(), seen.LoadBalancers[0].ID)
	case "set-none":
		p.setNone()
	case "update-workers":
		p.run("update", "cluster", "--instance-group-roles=node", keepRole)
	case "update-control-plane":
		p.run("update", "cluster", "--instance-group-roles=control-plane", keepRole)
	case "canary":
		err = p.operator.Terminate(s.Context(), oldest(seen, cluster.RoleNode)[0])
	case "roll-workers":
		p.roll(cluster.RoleNode)
	case "roll-control-plane":
		p.roll(cluster.RoleControlPlane)
	case "remove-dns-controller": // its add-on came with the control plane's templates
	case "narrow":
		p.run("update", "cluster")
	case "close-ports":
		_, err = p.operator.ClosePorts(s.Context(), []int{3993, 3998, 3999, 4000})
	case "scrub":
		for _, g := range seen.Groups {
			if _, e := p.operator.DropVersions(s.Context(), g.Template.ID, g.Template.Version); e != nil {
				err = e
			}
		}
	default:
		s.Fatalf("the pipeline knows no step %s", id)
	}
	if err != nil {
		s.Fatalf("apply %s: %v", id, err)
	}
}

func (p *pipeline) setNone() {
	p.s.Helper()
	key := store.Layout(p.s.name).Config()
	before, err := p.s.store.Get(p.s.Context(), key)
	if err != nil {
		p.s.Fatal(err)
	}
	path, err := spec.ParsePath("spec.topology.dns.type")
	if err != nil {
		p.s.Fatal(err)
	}
	now, err := spec.Edit(before.Data, spec.Set(path, "None"))
	if err != nil {
		p.s.Fatal(err)
	}
	p.s.put(key, now)
}

func (p *pipeline) run(args ...string) {
	p.s.Helper()
	cmd := exec.CommandContext(p.s.Context(), p.kops, append(args, "--name", p.s.name, "--create-kube-config=false", "--yes")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.s.Fatalf("kops %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// oldest returns the instances of a role that are not of the new template.
func oldest(o *cloud.Observation, role cluster.Role) (ids []string) {
	for _, g := range o.Groups {
		for _, i := range g.Instances {
			if g.Role == role && i.Generation != cloud.GenerationNew && i.State == "running" {
				ids = append(ids, i.ID)
			}
		}
	}
	return ids
}

// roll replaces the instances of a role, like an instance refresh.
func (p *pipeline) roll(role cluster.Role) {
	p.s.Helper()
	for _, id := range oldest(p.s.observe().Cloud, role) {
		if err := p.operator.Terminate(p.s.Context(), id); err != nil {
			p.s.Fatal(err)
		}
	}
}
