package kopshook

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/hosts"
)

// drawGroup draws an InstanceGroup with or without entries of the operator's.
func drawGroup(rt *rapid.T) string {
	var b strings.Builder
	b.WriteString("apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata:\n  name: nodes\nspec:\n")
	if n := rapid.IntRange(0, 3).Draw(rt, "entries"); n > 0 {
		nested := rapid.SampledFrom([]string{"", "  "}).Draw(rt, "nested")
		b.WriteString("  additionalUserData:\n")
		for i := range n {
			fmt.Fprintf(&b, "  %s- name: mine-%d # a comment\n  %s  type: text/x-shellscript\n  %s  content: |\n  %s    #!/bin/sh\n  %s    echo mine\n", nested, i, nested, nested, nested, nested)
		}
	}
	b.WriteString("  role: Node\n")
	return b.String()
}

func TestABoothookIsGivenBackByteForByte(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		manifest := drawGroup(rt)
		with, kept, err := Boothook([]byte(manifest), testConfig)
		if err != nil || kept != "" || string(with) == manifest {
			rt.Fatalf("boothook: %v, kept %q in\n%s", err, kept, manifest)
		}
		if again, _, err := Boothook(with, testConfig); err != nil || string(again) != string(with) {
			rt.Fatalf("the same once more: %v\n%s\nwant\n%s", err, again, with)
		}
		if rapid.Bool().Draw(rt, "the agent, too") {
			if with, err = Install(with, testConfig); err != nil {
				rt.Fatal(err)
			}
			if with, _, err = Boothook(with, testConfig); err != nil {
				rt.Fatal(err)
			}
		}
		back, err := Uninstall(with)
		if err != nil || string(back) != manifest {
			rt.Fatalf("uninstall: %v\n%s\nwant\n%s", err, back, manifest)
		}
	})
}

func TestABoothookOfTheOperatorsOwnIsLeftAlone(t *testing.T) {
	own := func(name, content string) string {
		return "kind: InstanceGroup\nspec:\n  additionalUserData:\n  - name: " + name + "\n    type: text/cloud-boothook\n    content: |\n      #!/bin/sh\n      " + content + "\n"
	}
	const ours = "echo 172.20.0.4 kops-controller.internal.atlas.k8s.local >> /etc/hosts"
	for name, test := range map[string]struct{ manifest, kept, fault string }{
		"one that sets kops-controller's name":     {own("addresses", ours), "addresses", ""},
		"one that does something else":             {own("disks", "mkfs /dev/xvdb"), "", ""},
		"one by our name":                          {own(bootName, "mkfs /dev/xvdb"), "", "an entry muster-boothook that muster did not write"},
		"one by our name that does what ours does": {own(bootName, ours), bootName, ""},
		"that of another cluster":                  {own("addresses", strings.ReplaceAll(ours, "atlas", "boreas")), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			with, kept, err := Boothook([]byte(test.manifest), testConfig)
			switch {
			case test.fault != "":
				if err == nil || !strings.Contains(err.Error(), test.fault) || with != nil {
					t.Errorf("error %v; want %q", err, test.fault)
				}
				with = []byte(test.manifest)
			case err != nil || kept != test.kept || (string(with) == test.manifest) != (kept != ""):
				t.Errorf("kept %q, %v; want %q, and what is kept alone, in\n%s", kept, err, test.kept, with)
			}
			if back, err := Uninstall(with); err != nil || string(back) != test.manifest {
				t.Errorf("uninstall: %v\n%s\nwant\n%s", err, back, test.manifest)
			}
		})
	}
}

func TestABoothookIsRefusedWhereItCannotWork(t *testing.T) {
	const group = "kind: InstanceGroup\nspec:\n  role: Node\n"
	for name, test := range map[string]struct {
		manifest string
		change   func(*Config)
		want     string
	}{
		"the cluster's spec, which has no user-data": {"kind: Cluster\nspec: {}\n", func(*Config) {}, "goes into an InstanceGroup"},
		"without an address":                         {group, func(c *Config) { c.Servers = nil }, "no addresses of the control plane"},
		"an address that no server can have":         {group, func(c *Config) { c.Servers = []netip.Addr{netip.IPv6Loopback()} }, "server ::1"},
		"a name that a shell would read":             {group, func(c *Config) { c.Cluster = "a'$(reboot)" }, "cannot stand in a script"},
		"an empty list, which could not come back":   {"kind: InstanceGroup\nspec:\n  additionalUserData: []\n", func(*Config) {}, "could not give back"},
		"no manifest": {"a: [", func(*Config) {}, "not a kOps manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig
			test.change(&c)
			if with, _, err := Boothook([]byte(test.manifest), c); err == nil || !strings.Contains(err.Error(), test.want) || with != nil {
				t.Errorf("%v; want %q and no manifest", err, test.want)
			}
		})
	}
}

func TestTheBoothookPutsBothNamesWhereTheAgentLooksForThem(t *testing.T) {
	const localhost = "127.0.0.1\tlocalhost\n"
	api, controller := "api.internal.atlas.k8s.local", "kops-controller.internal.atlas.k8s.local"
	kept := localhost + hosts.GuardBegin + "\n10.0.0.9\t" + api + " " + controller + "\n" + hosts.GuardEnd + "\n"
	for name, test := range map[string]struct {
		before string // "-": there is no file
		same   bool
	}{
		"a new node":                             {before: localhost},
		"a last line that is not ended":          {before: strings.TrimSuffix(localhost, "\n")},
		"no file at all":                         {before: "-"},
		"an empty file":                          {before: ""},
		"the name in a comment":                  {before: localhost + "# 10.0.0.9 " + controller + "\n"},
		"another cluster's name":                 {before: localhost + "10.0.0.9\tkops-controller.internal.boreas.k8s.local\n"},
		"a reboot: the agent knows later ones":   {before: kept, same: true},
		"a block of kOps's without these names":  {before: localhost + hosts.GuardBegin + "\n10.0.0.9\tx.k8s.local\n" + hosts.GuardEnd + "\n"},
		"a writer that was killed in the middle": {before: localhost + hosts.GuardBegin + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "hosts")
			if test.before != "-" {
				if err := os.WriteFile(file, []byte(test.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			script := strings.Replace(testConfig.bootScript(), "file=/etc/hosts", "file='"+file+"'", 1)
			var first string
			for i := range 2 { // it runs at every boot
				if out, err := exec.Command("/bin/sh", "-eu", "-c", script).CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("boot %d: %v, it says %q", i+1, err, out)
				}
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if i == 1 && string(content) != first {
					t.Errorf("another boot changed it to\n%s\nfrom\n%s", content, first)
				}
				first = string(content)
			}
			if !strings.HasPrefix(first, strings.TrimPrefix(test.before, "-")) {
				t.Errorf("lines were lost:\n%s", first)
			}
			if test.same {
				if first != test.before {
					t.Errorf("it became\n%s\nwant\n%s", first, test.before)
				}
				return
			}
			for _, name := range []string{api, controller} {
				if diff := cmp.Diff(testConfig.Servers, hosts.Lookup([]byte(first), name), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Errorf("%s (-want +got):\n%s\nin\n%s", name, diff, first)
				}
			}
			if len(hosts.Parse([]byte(first)).Entries) < len(testConfig.Servers) {
				t.Errorf("the agent finds nothing to adopt in\n%s", first)
			}
		})
	}
}

func TestTheBoothookIsOneForCloudInit(t *testing.T) {
	with, _, err := Boothook([]byte("kind: InstanceGroup\nspec:\n  role: Node\n"), testConfig)
	if err != nil {
		t.Fatal(err)
	}
	_, entries, err := decodeUserData(with)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	e := entries[0]
	if e.Type != "text/cloud-boothook" || !strings.HasPrefix(e.Content, "#!/bin/sh\n") || strings.Contains(e.Content, "protokube") {
		t.Errorf("entry %+v; want a boothook that a shell runs, and that no audit takes for a caller of protokube", e)
	}
}
