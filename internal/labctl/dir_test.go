package labctl

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheRecordOfAMigrationOutlivesItsLab(t *testing.T) {
	dir := t.TempDir()
	if got := StoredCluster(dir); got != "" {
		t.Errorf("a directory without a store has a record of %q", got)
	}
	if err := os.MkdirAll(filepath.Join(StoreDir(dir), "atlas.k8s.local"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(StoreDir(dir), "a-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := StoredCluster(dir), "atlas.k8s.local"; got != want {
		t.Errorf("the store has a record of %q, want %q", got, want)
	}
}
