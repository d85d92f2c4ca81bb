package byhand

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
)

// userData is a boot script as kOps writes it.
func userData(name, group, rest string) string {
	return "#!/bin/bash\ncat > conf/kube_env.yaml << '__EOF_KUBE_ENV'\n" +
		"CloudProvider: aws\nClusterName: " + name + "\nInstanceGroupName: " + group + "\nInstanceGroupRole: Node\n" + rest +
		"__EOF_KUBE_ENV\n"
}

const (
	byAddress = "APIServerIPs:\n- 10.9.0.11\nConfigServer:\n  servers:\n  - https://10.9.0.11:3988/\n"
	byName    = "ConfigServer:\n  servers:\n  - https://kops-controller.internal.lyra.k8s.local:3988/\n"
	byGossip  = "ConfigBase: s3://lyra-state/lyra.k8s.local\n"
)

// generate writes what kOps would: kubernetes.tf and the user-data of groups.
func generate(t *testing.T, dir string, boots map[string]string) {
	t.Helper()
	files := map[string]string{"data/aws_iam_role_policy_nodes.lyra_policy": "{}"}
	tf := "terraform {\n}\n"
	for group, text := range boots {
		name := fmt.Sprintf("data/aws_launch_template_%s.lyra.k8s.local_user_data", group)
		files[name] = text
		tf += fmt.Sprintf("resource \"aws_launch_template\" \"%s-lyra-k8s-local\" {\n  user_data = filebase64(\"${path.module}/%s\")\n}\n", group, name)
	}
	files["kubernetes.tf"] = tf
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func lyra() plan.Problem {
	return plan.Problem{Cluster: "lyra.k8s.local", Groups: []plan.Group{
		{Name: "control-plane-a", Role: cluster.RoleControlPlane},
		{Name: "nodes-a", Role: cluster.RoleNode}, {Name: "nodes-b", Role: cluster.RoleNode},
	}}
}

func TestTheTargetIsCheckedBeforeItIsApplied(t *testing.T) {
	const name = "lyra.k8s.local"
	good := userData(name, "nodes-b", byAddress)
	for title, tt := range map[string]struct {
		boots map[string]string
		after func(t *testing.T, dir string)
		want  string // part of the error; empty if it may be applied
	}{
		"addresses everywhere": {boots: map[string]string{"nodes-a": userData(name, "nodes-a", byAddress), "nodes-b": good}},
		"addresses, in base64": {boots: map[string]string{"nodes-a": base64.StdEncoding.EncodeToString([]byte(userData(name, "nodes-a", byAddress))), "nodes-b": good}},
		"an empty list of addresses": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", byName), "nodes-b": good},
			want:  "apiServerIPs of nodes-a is empty: its workers would ask https://kops-controller.internal.lyra.k8s.local:3988/, which nothing resolves",
		},
		"servers by address, and no address of the API": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", strings.TrimPrefix(byAddress, "APIServerIPs:\n- 10.9.0.11\n")), "nodes-b": good},
			want:  "workers of nodes-a would boot by addresses, with 0 addresses of the API",
		},
		"a group that still gossips": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", byGossip), "nodes-b": good},
			want:  "workers of nodes-a would boot by gossip",
		},
		"a group that is missing": {boots: map[string]string{"nodes-b": good}, want: "no user-data was generated for group nodes-a"},
		"a group that cannot be read": {
			boots: map[string]string{"nodes-a": "#!/bin/bash\necho hello\n", "nodes-b": good},
			want:  "no user-data was generated for group nodes-a, data/aws_launch_template_nodes-a.lyra.k8s.local_user_data: user-data (shell script) holds no kube_env.yaml",
		},
		"another cluster": {
			boots: map[string]string{"nodes-a": userData("vega.k8s.local", "nodes-a", byAddress), "nodes-b": good},
			want:  "group nodes-a is one of cluster vega.k8s.local",
		},
		"two templates of one group": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", byAddress), "nodes-b": userData(name, "nodes-a", byAddress)},
			want:  "a second user-data of group nodes-a",
		},
		"a file of an earlier run that nothing refers to": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", byAddress), "nodes-b": good},
			after: func(t *testing.T, dir string) {
				if err := os.WriteFile(filepath.Join(dir, "data/aws_launch_template_old_user_data"), []byte(userData(name, "nodes-a", byName)), 0o644); err != nil {
					t.Fatal(err)
				}
			},
		},
		"JSON instead of HCL": {
			boots: map[string]string{"nodes-a": userData(name, "nodes-a", byAddress), "nodes-b": good},
			after: func(t *testing.T, dir string) {
				if err := os.Rename(filepath.Join(dir, "kubernetes.tf"), filepath.Join(dir, "kubernetes.tf.json")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"a directory of something else": {
			after: func(t *testing.T, dir string) {
				if err := os.Remove(filepath.Join(dir, "kubernetes.tf")); err != nil {
					t.Fatal(err)
				}
			},
			want: "want what kops update cluster --target=terraform",
		},
	} {
		t.Run(title, func(t *testing.T) {
			dir := t.TempDir()
			generate(t, dir, tt.boots)
			if tt.after != nil {
				tt.after(t, dir)
			}
			g, err := ReadTarget(dir)
			if err == nil {
				err = g.check(lyra())
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestALinkOutOfTheDirectoryIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	generate(t, dir, map[string]string{"nodes-a": userData("lyra.k8s.local", "nodes-a", byAddress)})
	name := filepath.Join(dir, "data/aws_launch_template_nodes-a.lyra.k8s.local_user_data")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", name); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTarget(dir); err == nil || !strings.Contains(err.Error(), "read what instances boot with") {
		t.Errorf("error %v; want it refused", err)
	}
}

// What was generated is judged again whenever it changes, and what it says is
// said once.
func TestAPersonIsToldWhetherToApply(t *testing.T) {
	pl := found(t)
	dir := filepath.Join(t.TempDir(), "out")
	synctest.Test(t, func(t *testing.T) {
		state := pl.Problem.Starts[0].State
		state.Config, state.None = true, true
		w := &world{states: []plan.State{state}}
		boots := func(rest string) map[string]string {
			all := map[string]string{}
			for _, g := range pl.Problem.Groups {
				all[g.Name] = userData(pl.Problem.Cluster, g.Name, rest)
			}
			return all
		}
		// Between two looks: kOps writes while nobody reads.
		time.AfterFunc(10*time.Minute+7*time.Second, func() { generate(t, dir, boots(byName)) })
		time.AfterFunc(20*time.Minute+7*time.Second, func() { generate(t, dir, boots(byAddress)) })
		time.AfterFunc(30*time.Minute, func() { w.change(each(effects["update-workers"])) })
		var said script
		e := New(Config{Problem: pl.Problem, Look: w.look, TargetDir: dir})
		if _, verdict, reason, err := perform(t.Context(), e, step(t, pl, "update-workers"), said.say); err != nil || verdict != "pass" {
			t.Fatalf("%s: %s, %v", verdict, reason, err)
		}
		var about []string
		for _, l := range said.lines {
			if strings.Contains(l, dir) {
				about = append(about, l)
			}
		}
		want := []string{"no generated Terraform", "apiServerIPs of ", " may be applied: workers of "}
		if len(about) != len(want) {
			t.Fatalf("%d lines about the directory; want %d:\n%s", len(about), len(want), strings.Join(about, "\n"))
		}
		for i := range want {
			if !strings.Contains(about[i], want[i]) {
				t.Errorf("line %d: %q; want %q in it", i+1, about[i], want[i])
			}
		}
	})
}
