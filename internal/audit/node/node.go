// Package node reads what a machine's Go programs are made of, from the build
// information that the compiler leaves in them, and says which carry modules
// that nobody maintains. It works on a running node, on a mounted image and on
// a single file.
//
// It is no vulnerability scanner, and it sees modules only: code that a program
// vendors under its own name, as kOps does with its fork of memberlist, does not
// show. It changes nothing, follows no symbolic link, and never leaves the
// directory that it is given.
package node

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report is what a look at a machine found.
type Report struct {
	// Looked counts the files that were read as programs, Go or not.
	Looked int `json:"looked"`
	// Programs are Go programs, sorted by path.
	Programs []Program `json:"programs"`
	// Unread are files and directories that could not be read, one line each.
	Unread []string `json:"unread"`
}

// Program is a Go program.
type Program struct {
	Path    string   `json:"path"` // below the directory that was looked at
	Package string   `json:"package"`
	Module  Module   `json:"module"`
	Go      string   `json:"go"`
	Modules []Module `json:"modules"` // what it is linked from
	Running bool     `json:"running"` // a process runs it now
	Dead    []Dead   `json:"unmaintained"`
}

// Module is a module at a version.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// Dead is a module that nobody maintains, or a version that lacks what later
// ones have.
type Dead struct {
	Module
	LastRelease string `json:"lastRelease"` // year and month
	Why         string `json:"why"`
}

// unmaintained are the modules of kOps's gossip. A prefix of versions narrows an
// entry to them.
var unmaintained = []struct {
	path     string
	versions []string
	last     string
	why      string
}{
	{"github.com/weaveworks/mesh", nil, "2019-11", "its authors are gone; topology messages grow with the square of the nodes, and peers have no identity"},
	{"github.com/jacksontj/memberlistmesh", nil, "2019-09", "never encrypts, and takes records from anybody"},
	{"github.com/hashicorp/memberlist", []string{"v0.1.", "v0.2.", "v0.3.", "v0.4.", "v0.5."}, "2026-09",
		"maintained, but this version lacks the limits on message sizes of July 2026"},
}

func deadAmong(modules []Module) (dead []Dead) {
	for _, m := range modules {
		for _, u := range unmaintained {
			old := len(u.versions) == 0 || slices.ContainsFunc(u.versions, func(p string) bool { return strings.HasPrefix(m.Version, p) })
			if m.Path == u.path && old {
				dead = append(dead, Dead{Module: m, LastRelease: u.last, Why: u.why})
			}
		}
	}
	return dead
}

// ErrNotGo says that the file is no Go program, or carries no build information.
var ErrNotGo = errors.New("no Go program with build information")

// ReadFile reads one program.
func ReadFile(path string) (Program, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return Program{}, err
		}
		return Program{}, fmt.Errorf("%s: %w", path, ErrNotGo)
	}
	return program(path, info), nil
}

func program(path string, info *buildinfo.BuildInfo) Program {
	p := Program{Path: path, Package: info.Path, Module: Module{info.Main.Path, info.Main.Version}, Go: info.GoVersion, Modules: []Module{}}
	for _, d := range info.Deps {
		m := Module{d.Path, d.Version}
		// A replacement by a directory is most often the same code, patched.
		if d.Replace != nil && !strings.HasPrefix(d.Replace.Path, ".") && !filepath.IsAbs(d.Replace.Path) {
			m = Module{d.Replace.Path, d.Replace.Version}
		}
		p.Modules = append(p.Modules, m)
	}
	// A program may itself be what is unmaintained.
	p.Dead = deadAmong(append([]Module{p.Module}, p.Modules...))
	return p
}

// skipped are directories of the kernel, below any root.
var skipped = []string{"proc", "sys", "dev"}

// Scan looks at every executable file below a directory until ctx ends. seen, if
// not nil, is told each file's path before it is read. It fails only if the
// directory itself cannot be read.
func Scan(ctx context.Context, root string, seen func(path string)) (Report, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return Report{}, fmt.Errorf("look at %s: %w", root, err)
	}
	defer func() { _ = dir.Close() }() // it was only read
	r := Report{Programs: []Program{}, Unread: []string{}}
	running := processes(root)
	err = fs.WalkDir(dir.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.Unread = append(r.Unread, fmt.Sprintf("%s: %v", path, err))
			return nil
		case d.IsDir() && slices.Contains(skipped, path):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Mode()&0o111 == 0 {
			return nil
		}
		if seen != nil {
			seen(path)
		}
		r.look(dir, path, running)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("look at %s: %w", root, err)
	}
	slices.SortStableFunc(r.Programs, func(a, b Program) int { return strings.Compare(a.Path, b.Path) })
	return r, nil
}

// look reads one file through the directory, so that it is below it.
func (r *Report) look(dir *os.Root, path string, running map[string]bool) {
	f, err := dir.Open(path)
	if err != nil {
		r.Unread = append(r.Unread, err.Error())
		return
	}
	defer f.Close()
	r.Looked++
	info, err := buildinfo.Read(f)
	if err != nil {
		return // a script, or a program of another language
	}
	p := program(path, info)
	p.Running = running[path]
	r.Programs = append(r.Programs, p)
}

// processes returns the programs that run now, by path below the root, if the
// directory is this machine's own root; an image runs nothing.
func processes(root string) map[string]bool {
	running := map[string]bool{}
	if abs, err := filepath.Abs(root); err != nil || abs != "/" {
		return running
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil { // others' processes are not ours to see
			running[strings.TrimPrefix(strings.TrimSuffix(exe, " (deleted)"), "/")] = true
		}
	}
	return running
}
