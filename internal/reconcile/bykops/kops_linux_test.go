package bykops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// It is run as package child runs commands, and so ends with us.
func TestKopsIsAProcessGroupOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kops")
	text := "#!/bin/sh\nif [ \"$1\" = version ]; then echo 1.36.2; exit; fi\ncut -d' ' -f1,5 /proc/$$/stat\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := FindKops(t.Context(), path, "s3://x")
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	if err := k.Run(t.Context(), []string{"update"}, func(line string) { last = line }); err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(last); len(f) != 2 || f[0] != f[1] {
		t.Errorf("process and group %q; want the same", last)
	}
}
