package clustercmd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/store"
)

// TestAnInterruptLosesNoTextOfAnEditor: Ctrl-C in an editor reaches muster, too. The
// editor goes on, and where its text is is said, because nothing is written.
func TestAnInterruptLosesNoTextOfAnEditor(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	config := filepath.Join(dir, "atlas.k8s.local", "config")
	const spec = "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\nmetadata: {name: atlas.k8s.local}\nspec: {cloudProvider: aws, topology: {dns: {type: None}}}\n"
	if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	open, proceed, editor := filepath.Join(dir, "open"), filepath.Join(dir, "proceed"), filepath.Join(dir, "editor")
	for _, pipe := range []string{open, proceed} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(editor, []byte("#!/bin/sh\necho > "+open+"\nread line < "+proceed+"\necho '# typed later' >> $1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBE_EDITOR", editor)

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var errs bytes.Buffer
	ended := make(chan error)
	go func() {
		o := editOptions{Flags: statestore.Flags{State: "file://" + dir, Name: "atlas.k8s.local"}, yes: true}
		ended <- runEdit(ctx, console.Streams{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &errs}, o, func(c *store.Cluster) (store.Object, error) { return c.Spec, nil })
	}()
	if _, err := os.ReadFile(open); err != nil { // until the editor is open
		t.Fatal(err)
	}
	interrupt()
	w, err := os.OpenFile(proceed, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the edit ended with %v; want that it was interrupted", err)
	}
	_, file, _ := strings.Cut(strings.TrimSpace(errs.String()), "your text is in ")
	text, err := os.ReadFile(file)
	if err != nil || string(text) != spec+"# typed later\n" {
		t.Errorf("it says %q; the file holds %q, %v; want the text to its last line", errs.String(), text, err)
	}
	if now, err := os.ReadFile(config); err != nil || string(now) != spec {
		t.Errorf("the store holds %q, %v; want what it held", now, err)
	}
}
