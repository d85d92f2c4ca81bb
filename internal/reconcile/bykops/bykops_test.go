package bykops

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPlansCommandsAreRunWithoutAShell(t *testing.T) {
	got, err := parseCommand("kops update cluster --name a.k8s.local --lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges --yes")
	want := []string{"update", "cluster", "--name", "a.k8s.local", "--lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges", "--yes"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, line := range []string{"", "kops", "rm -rf state", "kops update; rm x", "kops update `id`", "kops update $HOME", `kops update "a b"`, "kops x > y"} {
		if got, err := parseCommand(line); err == nil {
			t.Errorf("%q was taken for %q", line, got)
		}
	}
}

func TestSecretsAreRedactedFromTheOutputOfKops(t *testing.T) {
	var said []string
	l := &lineWriter{say: func(line string) { said = append(said, line) }}
	for _, chunk := range []string{
		"I1125 applied\n\n  export S3_SECRET_ACC", "ESS_KEY=geheim1\n", "    password: \"geheim2\"\n", "id AKIAIOSFODNN7EXAMPLE used\n",
		"s3 at https://me:geheim3@minio/\n", "-----BEGIN RSA PRIVATE KEY-----\ngeheim4\n-----END RSA PRIVATE KEY-----\nafter\n", strings.Repeat("x", 10_000) + "\nend",
	} {
		if n, err := l.Write([]byte(chunk)); n != len(chunk) || err != nil {
			t.Fatalf("wrote %d of %d, %v", n, len(chunk), err)
		}
	}
	l.flush()
	all := strings.Join(said, "\n")
	for _, never := range []string{"geheim", "AKIAIOSFODNN7EXAMPLE"} {
		if strings.Contains(all, never) {
			t.Errorf("%q was kept:\n%s", never, all)
		}
	}
	for _, want := range []string{"I1125 applied", "S3_SECRET_ACCESS_KEY=(secret)", "password: (secret)", "https://(secret)minio/", "(a PEM block)", "after", "end"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing:\n%s", want, all)
		}
	}
	if longest := slices.MaxFunc(said, func(a, b string) int { return len(a) - len(b) }); len(longest) > maxLine+3 {
		t.Errorf("a line of %d bytes was kept", len(longest))
	}
}

func TestTheOutputOfKopsIsBounded(t *testing.T) {
	n, last := 0, ""
	l := &lineWriter{say: func(line string) { n++; last = line }}
	for range 3 * maxLines {
		_, _ = l.Write([]byte("line\n"))
	}
	l.flush()
	if n != maxLines+1 || last != "... and 800 more lines of kops" {
		t.Errorf("%d lines were said, the last %q", n, last)
	}
}

func TestKopsIsFoundAndItsReleaseChecked(t *testing.T) {
	dir := t.TempDir()
	script := func(name, version string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+version+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, old, odd := script("right", "v1.36.2"), script("old", "1.35.2"), script("odd", "hello")
	t.Setenv("PATH", dir)
	t.Setenv("KOPS", "")
	for _, tt := range []struct{ name, given, env, want string }{
		{"the path that was given", right, old, ""},
		{"the environment's", "", right, ""},
		{"another release", old, "", "old is kOps 1.35.2, and the plan is for 1.36; name that one with --kops"},
		{"no kops", odd, "", "is it kops?"},
		{"none anywhere", "", "", "no kops in PATH; install kOps 1.36, or name the binary with --kops or $KOPS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KOPS", tt.env)
			k, err := FindKops(context.Background(), tt.given, "s3://x")
			switch {
			case tt.want == "" && (err != nil || k.Path != right || k.Version != "1.36.2"):
				t.Errorf("got %+v, %v", k, err)
			case tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.want)):
				t.Errorf("got %v, want ...%s", err, tt.want)
			}
		})
	}
}

func TestAGroupIsReplacedAsFastAsTheSpecSays(t *testing.T) {
	const groups = "\n---\nkind: InstanceGroup\nmetadata:\n  name: other\nspec:\n  rollingUpdate:\n    maxSurge: 9\n---\nkind: InstanceGroup\nmetadata:\n  name: nodes\nspec:\n  minSize: 1\n"
	for _, tt := range []struct {
		name, cluster, group string
		want                 rollout
	}{
		{"as kOps has it", "", "", rollout{surge: 1}},
		{"the cluster's", "  rollingUpdate:\n    maxSurge: 25%\n", "", rollout{surge: 3}},
		{"the group's over the cluster's", "  rollingUpdate:\n    maxSurge: 4\n    maxUnavailable: 2\n", "  rollingUpdate:\n    maxSurge: 0\n", rollout{unavailable: 2}},
		{"no surge takes one away", "  rollingUpdate:\n    maxSurge: 0\n", "", rollout{unavailable: 1}},
		{"a percentage of what is away is rounded down", "  rollingUpdate:\n    maxUnavailable: 19%\n", "", rollout{surge: 1, unavailable: 1}},
		{"nothing would ever move", "  rollingUpdate:\n    maxSurge: 0\n    maxUnavailable: 0\n", "", rollout{unavailable: 1}},
		{"not by a roll", "", "  rollingUpdate:\n    drainAndTerminate: false\n", rollout{surge: 1, manual: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := rolloutOf([]byte("kind: Cluster\nspec:\n  x: 1\n"+tt.cluster+groups+tt.group), "nodes", 10)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := rolloutOf([]byte("kind: Cluster\nspec:\n  rollingUpdate:\n    maxSurge: some\n"), "nodes", 10); err == nil {
		t.Error("a word was taken for a number")
	}
}
