package bootconfig_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
)

func FuzzParse(f *testing.F) {
	for _, boot := range []string{workerWithAddresses, workerWithName, workerThatGossips, controlPlane} {
		s := script(boot, nodeup, "export HCLOUD_TOKEN=hush")
		for _, data := range []string{
			s, based(s), zipped(s), based(zipped(s)), boot,
			mimed("Content-Type: text/x-shellscript\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(s, "=", "=3D")),
			"#cloud-config\nwrite_files:\n- {path: /a/kube_env.yaml, encoding: gz+b64, content: " + based(zipped(boot)) + "}\nruncmd: [[a, [b]], c]\n",
			"echo '" + based(boot) + "' | base64 -d > kube_env.yaml\n",
		} {
			f.Add([]byte(data))
		}
	}
	f.Add([]byte("a <<<b\ncat <<-\\X | zcat > kube_env.yaml\nX\n"))
	f.Add([]byte("#cloud-config\na: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := bootconfig.Parse(data)
		if err != nil {
			if b != nil || err.Error() == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("config %+v beside the error %q", b, err)
			}
			return
		}
		if b.Cluster == "" || b.Group == "" || b.Role == "" {
			t.Errorf("half a boot configuration: %+v", b)
		}
		if p := bootconfig.Path(b); p != cloud.BootUnknown && len(b.Servers) == 0 && b.ConfigBase == "" {
			t.Errorf("path %s that leads nowhere: %+v", p, b)
		}
	})
}

// TestSamples reads what real kOps wrote.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.FromSlash("../../../../shared/samples/aws/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("SKIPPED: the samples of real clusters (../shared/samples/aws, seen from the repository) are not here; fixtures of our own are tested")
	}
	workers := map[string]cloud.BootPath{
		"gossip-1.35":                 cloud.BootGossip,
		"gossip-1.35-classic-lb":      cloud.BootGossip,
		"gossip-1.35-no-lb":           cloud.BootGossip,
		"hybrid-1.36":                 cloud.BootAddresses,
		"hybrid-1.36-empty-endpoints": cloud.BootName,
		"none-1.36":                   cloud.BootAddresses,
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var sample struct {
				Cluster         string
				LaunchTemplates []struct{ UserData string }
			}
			if err := json.Unmarshal(data, &sample); err != nil {
				t.Fatal(err)
			}
			for _, lt := range sample.LaunchTemplates {
				b, err := bootconfig.Parse([]byte(lt.UserData))
				if err != nil {
					t.Fatal(err)
				}
				if b.Cluster != sample.Cluster || !strings.Contains(name, "-"+b.KopsVersion[:4]) {
					t.Errorf("cluster %q, kOps %q", b.Cluster, b.KopsVersion)
				}
				want := cloud.BootGossip
				if b.Role == "Node" {
					want = workers[name]
				}
				if got := bootconfig.Path(b); got != want {
					t.Errorf("group %s: path %s, want %s", b.Group, got, want)
				}
			}
		})
	}
}
