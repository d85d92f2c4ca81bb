package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

// protokube builds a program whose build information contains the mesh.
func protokube(t *testing.T, to string) {
	t.Helper()
	src := t.TempDir()
	files := map[string]string{
		"go.mod":      "module k8s.io/kops\n\ngo 1.26\n\nrequire github.com/weaveworks/mesh v0.0.0-20191105120815-58dbcc3e8e63\n\nreplace github.com/weaveworks/mesh => ./mesh\n",
		"mesh/go.mod": "module github.com/weaveworks/mesh\n\ngo 1.26\n",
		"mesh/m.go":   "package mesh\n\nconst Name = \"mesh\"\n",
		"main.go":     "package main\n\nimport \"github.com/weaveworks/mesh\"\n\nfunc main() { println(mesh.Name) }\n",
	}
	for name, text := range files {
		path := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", to, ".")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func TestScanFindsTheMeshOnAnImage(t *testing.T) {
	root := t.TempDir()
	bin := filepath.Join(root, "opt/kops/bin")
	for _, dir := range []string{bin, filepath.Join(root, "proc/1"), filepath.Join(root, "usr/bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	protokube(t, filepath.Join(bin, "protokube"))
	data, err := os.ReadFile(filepath.Join(bin, "protokube"))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"proc/1/exe": 0o755, "usr/bin/not-executable": 0o644} {
		if err := os.WriteFile(filepath.Join(root, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/bin/script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(root, "usr/outside")); err != nil {
		t.Fatal(err)
	}
	var seen []string
	r, err := Scan(context.Background(), root, func(p string) { seen = append(seen, p) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"opt/kops/bin/protokube", "usr/bin/script"}, seen); diff != "" {
		t.Errorf("looked at (-want +got):\n%s", diff)
	}
	if len(r.Programs) != 1 || r.Looked != 2 || r.Programs[0].Running {
		t.Fatalf("Scan = %+v; want one program that does not run", r)
	}
	want := []Dead{{Module{"github.com/weaveworks/mesh", "v0.0.0-20191105120815-58dbcc3e8e63"}, "2019-11", unmaintained[0].why}}
	if diff := cmp.Diff(want, r.Programs[0].Dead); diff != "" {
		t.Errorf("unmaintained (-want +got):\n%s", diff)
	}
}

func TestOnlyWhatIsUnmaintainedIsReported(t *testing.T) {
	tests := []struct {
		name, info string
		want       []string
	}{
		{"kOps 1.36", "path\tk8s.io/kops/protokube/cmd/protokube\nmod\tk8s.io/kops\t(devel)\ndep\tgithub.com/hashicorp/memberlist\tv0.5.4\ndep\tgithub.com/weaveworks/mesh\tv0.0.0-20191105120815-58dbcc3e8e63\n",
			[]string{"github.com/hashicorp/memberlist", "github.com/weaveworks/mesh"}},
		{"old kOps", "path\tx\nmod\tx\tv1\ndep\tgithub.com/jacksontj/memberlistmesh\tv0.0.0-20190905163944-93462b9d2bb7\n", []string{"github.com/jacksontj/memberlistmesh"}},
		{"muster's own overlay", "path\tx\nmod\tx\tv1\ndep\tgithub.com/hashicorp/memberlist\tv0.7.0\n", nil},
		{"the mesh itself", "path\tgithub.com/weaveworks/mesh/examples/x\nmod\tgithub.com/weaveworks/mesh\tv0.4.0\n", []string{"github.com/weaveworks/mesh"}},
		{"a fork in its place", "path\tx\nmod\tx\tv1\ndep\tgithub.com/weaveworks/mesh\tv0.4.0\n=>\texample.com/mesh\tv1.0.0\th1:x=\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			info, err := debug.ParseBuildInfo(tt.info)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range program("x", info).Dead {
				got = append(got, d.Path)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("unmaintained (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadFileTellsWhyThereIsNoAnswer(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(script); !errors.Is(err, ErrNotGo) {
		t.Errorf("a script: %v; want ErrNotGo", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v; want ErrNotExist", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ReadFile(self)
	if err != nil || p.Module.Path == "" || len(p.Dead) != 0 {
		t.Errorf("ReadFile of this test = %+v, %v", p, err)
	}
}

func TestProgramsRunOnThisMachineOnly(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skipf("SKIPPED: this system has no /proc: %v", err)
	}
	t.Chdir("/")
	for root, want := range map[string]bool{"/": true, ".": true, t.TempDir(): false} {
		if got := processes(root)[strings.TrimPrefix(self, "/")]; got != want {
			t.Errorf("this test runs below %s: %v; want %v", root, got, want)
		}
	}
}

func TestScanEndsWhenItIsToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Scan(ctx, t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan = %v; want canceled", err)
	}
	if _, err := Scan(context.Background(), filepath.Join(t.TempDir(), "none"), nil); err == nil || !strings.Contains(err.Error(), "look at ") {
		t.Errorf("Scan = %v; want an error that names the directory", err)
	}
}

func TestSBOMListsProgramsAndTheirModules(t *testing.T) {
	lib := Module{"example.com/lib", "v1.2.3"}
	r := Report{Programs: []Program{
		{Path: "bin/a", Package: "example.com/a", Module: Module{"example.com/a", "v1"}, Go: "go1.26", Modules: []Module{lib}},
		{Path: "bin/b", Package: "example.com/b", Module: Module{"example.com/b", "v1"}, Go: "go1.26", Modules: []Module{lib}},
	}}
	data, err := SBOM(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := SBOM(r, "test")
	if !bytes.Equal(data, again) {
		t.Error("the same report gives other bytes")
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(data), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range *bom.Components {
		names = append(names, c.BOMRef)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"pkg:golang/example.com/lib@v1.2.3", "program:bin/a", "program:bin/b"}, names); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
}
