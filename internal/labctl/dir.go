package labctl

import (
	"os"
	"path/filepath"
)

// DefaultDir returns the directory of a lab where none is named.
func DefaultDir() string { return filepath.Join(os.TempDir(), "muster-lab") }

// StoreDir returns where the lab in dir keeps what a cluster keeps in a state store: the lock and the journals of
// migrations.
func StoreDir(dir string) string { return filepath.Join(dir, "store") }

// StoredCluster returns the cluster whose migrations the lab in dir has a record of, and "" if there is none. It outlives
// the lab.
func StoredCluster(dir string) string {
	entries, err := os.ReadDir(StoreDir(dir))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.IsDir() {
			return e.Name()
		}
	}
	return ""
}
