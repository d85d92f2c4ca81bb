// Package node reads the build information of a machine's Go programs and reports
// which contain unmaintained modules. It works on a running node, a mounted image or a
// single file.
//
// It is not a vulnerability scanner, and it sees only modules, not code vendored under
// the program's own path, such as kOps's fork of memberlist. It writes nothing, follows
// no symbolic links, and never leaves the given directory.
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

// Report is the result of [Scan].
type Report struct {
	// Looked is the number of executable files read, Go programs or not.
	Looked int `json:"looked"`
	// Programs are Go programs, sorted by path.
	Programs []Program `json:"programs"`
	// Unread lists the files and directories that could not be read, one line each.
	Unread []string `json:"unread"`
}

// Program is a Go program.
type Program struct {
	Path    string   `json:"path"` // relative to the scanned directory
	Package string   `json:"package"`
	Module  Module   `json:"module"`
	Go      string   `json:"go"`
	Modules []Module `json:"modules"` // its dependencies
	Running bool     `json:"running"` // a process runs it
	Dead    []Dead   `json:"unmaintained"`
}

// Module is a module at a version.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// Dead is an unmaintained module, or a version without security fixes of later ones.
type Dead struct {
	Module
	LastRelease string `json:"lastRelease"` // year and month
	Why         string `json:"why"`
}

// unmaintained are the modules of kOps's gossip. Prefixes of versions restrict an entry
// to those versions.
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

// findUnmaintained returns the unmaintained ones of modules.
func findUnmaintained(modules []Module) (dead []Dead) {
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

// ErrNotGo means that a file is not a Go program, or has no build information.
var ErrNotGo = errors.New("no Go program with build information")

// ReadFile reads one program. The error is of kind [ErrNotGo] if it is not one.
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
		// A local replacement is most often the same code, patched.
		if d.Replace != nil && !strings.HasPrefix(d.Replace.Path, ".") && !filepath.IsAbs(d.Replace.Path) {
			m = Module{d.Replace.Path, d.Replace.Version}
		}
		p.Modules = append(p.Modules, m)
	}
	// The program itself may be unmaintained.
	p.Dead = findUnmaintained(append([]Module{p.Module}, p.Modules...))
	return p
}

// kernelDirs are directories of the kernel, below any root.
var kernelDirs = []string{"proc", "sys", "dev"}

// Scan reads all executable files below a directory. seen, if not nil, is called with
// the path of each file before it is read. It fails only if the directory itself cannot
// be opened, or when ctx ends.
func Scan(ctx context.Context, root string, seen func(path string)) (Report, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return Report{}, fmt.Errorf("look at %s: %w", root, err)
	}
	defer func() { _ = dir.Close() }() // read only
	r := Report{Programs: []Program{}, Unread: []string{}}
	running := processes(root)
	err = fs.WalkDir(dir.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.Unread = append(r.Unread, fmt.Sprintf("%s: %v", path, err))
			return nil
		case d.IsDir() && slices.Contains(kernelDirs, path):
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
		r.read(dir, path, running)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("look at %s: %w", root, err)
	}
	slices.SortStableFunc(r.Programs, func(a, b Program) int { return strings.Compare(a.Path, b.Path) })
	return r, nil
}

// read adds one file. It is opened through the root, which keeps out links that lead
// out of it.
func (r *Report) read(dir *os.Root, path string, running map[string]bool) {
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

// processes returns the paths of running programs, relative to the root. They are
// empty unless root is this machine's.
func processes(root string) map[string]bool {
	running := map[string]bool{}
	if abs, err := filepath.Abs(root); err != nil || abs != "/" {
		return running
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil { // not allowed for processes of other users
			running[strings.TrimPrefix(strings.TrimSuffix(exe, " (deleted)"), "/")] = true
		}
	}
	return running
}
