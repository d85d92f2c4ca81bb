package bootconfig_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// The boot YAML of each kind of node, as kOps lays it out.
const (
	workerWithAddresses = `APIServerIPs:
- 10.9.0.11
- 10.9.0.12
CloudProvider: aws
ClusterName: lyra.k8s.local
ConfigServer:
  CACertificates: |
    -----BEGIN CERTIFICATE-----
    bm90IGEgcmVhbCBvbmU=
    -----END CERTIFICATE-----
  servers:
  - https://10.9.0.11:3988/
  - https://10.9.0.12:3988/
  tlsServerName: kops-controller.internal.lyra.k8s.local
InstanceGroupName: nodes-a
InstanceGroupRole: Node
NodeupConfigHash: c2l4dHkgZm91ciBjaGFycw==
`
	workerWithName = `CloudProvider: aws
ClusterName: lyra.k8s.local
ConfigServer:
  servers:
  - https://kops-controller.internal.lyra.k8s.local:3988/
InstanceGroupName: nodes-a
InstanceGroupRole: Node
`
	workerThatGossips = `CloudProvider: aws
ClusterName: lyra.k8s.local
ConfigBase: s3://lyra-state/lyra.k8s.local
InstanceGroupName: nodes-a
InstanceGroupRole: Node
`
	controlPlane = `CloudProvider: hetzner
ClusterName: lyra.k8s.local
ConfigBase: s3://lyra-state/lyra.k8s.local
InstanceGroupName: control-plane-a
InstanceGroupRole: ControlPlane
`
)

const ca = "-----BEGIN CERTIFICATE-----\nbm90IGEgcmVhbCBvbmU=\n-----END CERTIFICATE-----\n"

func addresses() *cloud.BootConfig {
	return &cloud.BootConfig{
		Cluster:       "lyra.k8s.local",
		Group:         "nodes-a",
		Role:          cluster.RoleNode,
		Cloud:         "aws",
		Servers:       []string{"https://10.9.0.11:3988/", "https://10.9.0.12:3988/"},
		TLSServerName: "kops-controller.internal.lyra.k8s.local",
		CA:            ca,
		APIServerIPs:  []string{"10.9.0.11", "10.9.0.12"},
		ConfigHash:    "c2l4dHkgZm91ciBjaGFycw==",
	}
}

// script wraps a boot YAML as kOps's boot script does, with lines before.
func script(boot string, before ...string) string {
	lines := append([]string{"#!/bin/bash", "set -o errexit"}, before...)
	return strings.Join(append(lines,
		`cat > conf/kube_env.yaml << '__EOF_KUBE_ENV'`,
		boot+"\n__EOF_KUBE_ENV",
		"download-release || true",
		`echo "== done =="`), "\n") + "\n"
}

const nodeup = "NODEUP_URL_AMD64=https://artifacts.example.net/binaries/kops/1.36.2/linux/amd64/nodeup,https://mirror.example.org/kops/1.36.2/linux/amd64/nodeup"

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

func based(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// wrapped breaks base64 into lines, as mail does.
func wrapped(s string) string {
	var b strings.Builder
	for s := based(s); s != ""; {
		n := min(76, len(s))
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String()
}

func indented(s string) string { return strings.ReplaceAll(s, "\n", "\n      ") }

func mimed(parts ...string) string {
	return "Content-Type: multipart/mixed; boundary=\"XX\"\nMIME-Version: 1.0\n\n--XX\n" +
		strings.Join(parts, "\n--XX\n") + "\n--XX--\n"
}

func TestParseReadsEveryWrapping(t *testing.T) {
	worker := script(workerWithAddresses, nodeup)
	tests := map[string]string{
		"a here-document, as kOps writes it":            worker,
		"the same with carriage returns":                strings.ReplaceAll(worker, "\n", "\r\n"),
		"base64, as the cloud's API has it":             based(worker),
		"base64 in lines":                               wrapped(worker),
		"gzip":                                          zipped(worker),
		"gzip in base64":                                based(zipped(worker)),
		"base64 in gzip in base64":                      based(zipped(wrapped(worker))),
		"the script after a byte order mark":            "\ufeff" + worker,
		"a here-document whose tabs are dropped":        nodeup + "\ncat <<-EOF >/opt/kops/conf/kube_env.yaml\n\t" + strings.ReplaceAll(workerWithAddresses, "\n", "\n\t") + "\n\tEOF\n",
		"a here-document that tee writes":               "#!/bin/sh\n" + nodeup + "\nsudo tee conf/kube_env.yaml <<\"EOF\" > /dev/null\n" + workerWithAddresses + "EOF\n",
		"an encoded text in a pipeline":                 "#!/bin/bash\n" + nodeup + "\necho \"" + based(zipped(workerWithAddresses)) + "\" | base64 -d | gzip -d > conf/kube_env.yaml\n",
		"a here-document through decoders":              "#!/bin/bash\n" + nodeup + "\nbase64 --decode << 'EOF' | gunzip > conf/kube_env.yaml\n" + wrapped(zipped(workerWithAddresses)) + "EOF\n",
		"MIME with the script among others":             mimed("Content-Type: text/x-shellscript\n\n"+worker, "Content-Type: text/cloud-config\n\npackages: [htop]\n"),
		"MIME with the script in base64":                mimed("Content-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n" + wrapped(worker)),
		"MIME with the script in gzip":                  mimed("Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n" + wrapped(zipped(worker))),
		"MIME inside MIME":                              mimed("Content-Type: multipart/mixed; boundary=YY\n\n--YY\nContent-Type: text/x-shellscript\n\n" + worker + "\n--YY--\n"),
		"cloud-init that writes the script":             "#cloud-config\nwrite_files:\n- path: /var/lib/cloud/boot.sh\n  content: |\n      " + indented(worker) + "\n",
		"cloud-init that writes the script encoded":     "#cloud-config\nwrite_files:\n- {path: /boot.sh, encoding: gz+b64, content: " + based(zipped(worker)) + "}\n",
		"cloud-init that writes the file itself":        "#cloud-config\nwrite_files:\n- path: /opt/kops/conf/kube_env.yaml\n  encoding: b64\n  content: " + based(workerWithAddresses) + "\n- {path: /boot.sh, content: " + nodeup + "}\n",
		"cloud-init with the script as a command":       "#cloud-config\nruncmd:\n- [systemctl, daemon-reload]\n- - bash\n  - -c\n  - |\n      " + indented(worker) + "\n",
		"a script that writes the script":               "#!/bin/bash\ncat > boot.sh << 'OUTER'\n" + worker + "OUTER\nbash boot.sh\n",
		"after a shift that looks like a here-document": "#!/bin/bash\n(( n = n <<wide ))\n" + worker,
		"the same file twice":                           worker + worker,
	}
	want := addresses()
	want.KopsVersion = "1.36.2"
	want.CAHash = bootconfig.Hash([]byte(ca))
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := bootconfig.Parse([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPathSaysWhereABootLeads(t *testing.T) {
	tests := map[string]struct {
		boot string
		want cloud.BootPath
	}{
		"a list of addresses": {workerWithAddresses, cloud.BootAddresses},
		"a name":              {workerWithName, cloud.BootName},
		"the state store":     {workerThatGossips, cloud.BootGossip},
		"a control plane":     {controlPlane, cloud.BootGossip},
		"a name before an address": {strings.Replace(workerWithAddresses, "https://10.9.0.11:3988/", "https://kops-controller.internal.lyra.k8s.local:3988/", 1),
			cloud.BootAddresses},
		"an IPv6 address": {strings.ReplaceAll(workerWithName, "kops-controller.internal.lyra.k8s.local", "[fd00::1]"), cloud.BootAddresses},
		"nothing":         {strings.Replace(workerThatGossips, "ConfigBase", "Config", 1), cloud.BootUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bootconfig.Parse([]byte(script(tt.boot)))
			if err != nil {
				t.Fatal(err)
			}
			if got := bootconfig.Path(b); got != tt.want {
				t.Errorf("Path = %s, want %s", got, tt.want)
			}
		})
	}
	if got := bootconfig.Path(nil); got != cloud.BootUnknown {
		t.Errorf("Path of what could not be read = %s, want unknown", got)
	}
}

func TestParseKeepsNamesOfSecretsAndNoValue(t *testing.T) {
	data := script(controlPlane,
		"export HCLOUD_TOKEN=hush-1", `export S3_ENDPOINT=https://s3.example.net S3_ACCESS_KEY_ID="hush-2" S3_SECRET_ACCESS_KEY='hush-3'`,
		"export OS_AUTH_URL=https://keystone.example.net OS_USERNAME=hush-4 OS_PASSWORD=hush-5", "DIGITALOCEAN_ACCESS_TOKEN=",
		"export AWS_REGION=eu-north-1", `TOKEN=$(curl -s http://169.254.169.254/latest/api/token)`)
	b, err := bootconfig.Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"HCLOUD_TOKEN", "OS_PASSWORD", "OS_USERNAME", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"}
	if diff := cmp.Diff(want, b.Credentials); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") {
		t.Errorf("a secret's value is kept: %s", text)
	}
}

func TestParseReadsNoReleaseWhereScriptsDisagree(t *testing.T) {
	b, err := bootconfig.Parse([]byte(script(controlPlane, nodeup, strings.ReplaceAll(nodeup, "1.36.2", "1.35.2"))))
	if err != nil {
		t.Fatal(err)
	}
	if b.KopsVersion != "" {
		t.Errorf("KopsVersion = %q of a script that names two", b.KopsVersion)
	}
}

func TestParseRefusesWhatItCannotTell(t *testing.T) {
	bomb := zipped(strings.Repeat("x", bootconfig.MaxUnpacked+1))
	deep := script(workerThatGossips)
	for range 12 {
		deep = based(deep)
	}
	tests := map[string]struct{ data, want string }{
		"nothing":                    {"", "is empty"},
		"blanks":                     {" \n\t\n", "is empty"},
		"more than the limit":        {strings.Repeat("#", bootconfig.MaxInput+1), "over the limit"},
		"a script of somebody else":  {"#!/bin/bash\necho hello\n", "(shell script) holds no kube_env.yaml"},
		"text":                       {"hello, world", "(plain text) holds no kube_env.yaml"},
		"cloud-init without files":   {"#cloud-config\npackages: [htop]\n", "(cloud-init) holds no kube_env.yaml"},
		"cloud-init that is no YAML": {"#cloud-config\n\twrite_files: [\n", "#cloud-config but not YAML"},
		"too many here-documents":    {"#!/bin/bash\n" + strings.Repeat("cat <<A\n", 257), "more than 256 here-documents"},
		"a list of URLs":             {"#include\nhttps://example.net/boot.sh\n", "list of URLs"},
		"a here-document without end": {"#!/bin/bash\ncat > conf/kube_env.yaml << 'EOF'\n" + workerThatGossips,
			"has no last line EOF"},
		"a value for the shell to fill in": {"#!/bin/bash\ncat > conf/kube_env.yaml << EOF\n" + strings.Replace(workerThatGossips, "nodes-a", "${GROUP}", 1) + "EOF\n",
			"to the shell"},
		"a download":                       {"#!/bin/bash\ncurl -s https://example.net/env > conf/kube_env.yaml\n", "by a command"},
		"two that differ":                  {script(workerThatGossips) + script(workerWithName), "two different"},
		"gzip that breaks off":             {zipped(script(workerThatGossips))[:200], "unpack gzip"},
		"MIME that breaks off":             {strings.TrimSuffix(mimed("Content-Type: text/plain\n\nhello"), "--XX--\n"), "breaks off"},
		"MIME without a boundary":          {"Content-Type: multipart/mixed\n\nhello", "without a boundary"},
		"MIME in an unknown encoding":      {mimed("Content-Type: text/plain\nContent-Transfer-Encoding: uuencode\n\nhello"), "uuencode"},
		"more than may be unpacked":        {bomb, "unpacks to more than"},
		"endless wrapping":                 {deep, "wrapped more than"},
		"YAML that is none":                {script("ClusterName: [\n"), "not the YAML of kOps"},
		"YAML of another kind":             {script("kind: ConfigMap\n"), "no InstanceGroupRole"},
		"a role that kOps lacks":           {script(strings.Replace(workerThatGossips, "Role: Node", "Role: Worker", 1)), `"Worker"`},
		"no cluster":                       {script(strings.Replace(workerThatGossips, "ClusterName", "Name", 1)), "no ClusterName"},
		"a value with a control character": {script(strings.Replace(workerThatGossips, "nodes-a", `"nodes\x1b[2J"`, 1)), "no plain text"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := bootconfig.Parse([]byte(tt.data))
			if err == nil {
				t.Fatalf("got %+v, want an error with %q", b, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestAnErrorNeverQuotesASecret(t *testing.T) {
	data := script("ClusterName: {hush: [hush-1]}\nInstanceGroupRole: hush-2: x\nAPIServerIPs: hush-3\n", "export HCLOUD_TOKEN=hush-4")
	_, err := bootconfig.Parse([]byte(data))
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error is %v", err)
	}
}
