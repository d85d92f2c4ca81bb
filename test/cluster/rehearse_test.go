package cluster

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/muster-dev/muster/internal/report"
)

// A rehearsal reports which program served the API.
func TestClusterRehearsesOnARealAPIServer(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(built(t), "muster"), "rehearse", "-f", "../lab/testdata/three.yaml", "--apiserver", "real", "-o", "json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rehearse: %v\n%s", err, stderr.String())
	}
	var got report.Result
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rehearsals) != 1 || got.Verdict != report.Pass || got.Probes.Failed != 0 {
		t.Fatalf("verdict %s, %d of %d probes failed; want pass and none", got.Verdict, got.Probes.Failed, got.Probes.Sent)
	}
	if api := got.Rehearsals[0].API; api != "kube-apiserver" {
		t.Errorf("the API was served by %q; want kube-apiserver", api)
	}
}
