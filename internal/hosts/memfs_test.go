//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// memFS is a file system in memory that knows what a power failure would leave: data that was not fsynced gets
// to the disk sector by sector or not at all, and changes of a directory get there in their order.
type memFS struct {
	names   map[string]*memNode
	durable map[string]*memNode
	pending []dirChange
}

type memNode struct {
	data, durable []byte
	mode          fs.FileMode
}

// dirChange gives name a node, or takes the name away if node is nil; from is the name that a rename takes away.
type dirChange struct {
	name, from string
	node       *memNode
}

func (c dirChange) apply(names map[string]*memNode) {
	delete(names, c.from)
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
}

func newMemFS() *memFS {
	return &memFS{names: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func (m *memFS) change(c dirChange) {
	c.apply(m.names)
	m.pending = append(m.pending, c)
}

func (m *memFS) OpenFile(name string, flag int, perm fs.FileMode) (handle, error) {
	node := m.names[name]
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case node != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case node == nil:
		node = &memNode{mode: perm}
		m.change(dirChange{name: name, node: node})
	case flag&os.O_TRUNC != 0:
		node.data = nil
	}
	return memHandle{node: node, name: name}, nil
}

func (m *memFS) Stat(name string) (fs.FileInfo, error) {
	node := m.names[name]
	if node == nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return memHandle{node: node, name: name}.Stat()
}

func (m *memFS) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

func (m *memFS) Rename(from, to string) error {
	node := m.names[from]
	if node == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	m.change(dirChange{name: to, from: from, node: node})
	return nil
}

func (m *memFS) Remove(name string) error {
	if m.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.change(dirChange{name: name})
	return nil
}

func (m *memFS) SyncDir(name string) error {
	m.pending = slices.DeleteFunc(m.pending, func(c dirChange) bool {
		if filepath.Dir(c.name) != name {
			return false
		}
		c.apply(m.durable)
		return true
	})
	return nil
}

// syncAll makes everything durable, as after a while without any failure.
func (m *memFS) syncAll() {
	for _, c := range m.pending {
		c.apply(m.durable)
	}
	m.pending = nil
	for _, node := range m.names {
		node.durable = bytes.Clone(node.data)
	}
}

// powerFailure forgets what has not got to the disk, which random decides.
func (m *memFS) powerFailure(random *rand.Rand) {
	for _, c := range m.pending[:random.IntN(len(m.pending)+1)] {
		c.apply(m.durable)
	}
	m.pending = nil
	m.names = m.durable
	m.durable = map[string]*memNode{}
	for name, node := range m.names {
		node.data = tear(node.durable, node.data, random)
		node.durable = bytes.Clone(node.data)
		m.durable[name] = node
	}
}

// tear returns what the disk has of a file that was old when it was last fsynced, and is now when the power fails.
func tear(old, now []byte, random *rand.Rand) []byte {
	size := len(old)
	if random.IntN(2) == 0 {
		size = len(now)
	}
	torn := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := old
		if random.IntN(2) == 0 {
			from = now
		}
		if at < len(from) {
			copy(torn[at:min(at+sector, size)], from[at:])
		}
	}
	return torn
}

type memHandle struct {
	node *memNode
	name string
}

func (h memHandle) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(h.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h memHandle) WriteAt(p []byte, off int64) (int, error) {
	if missing := int(off) + len(p) - len(h.node.data); missing > 0 {
		h.node.data = append(h.node.data, make([]byte, missing)...)
	}
	return copy(h.node.data[off:], p), nil
}

func (h memHandle) Truncate(size int64) error {
	h.node.data = h.node.data[:size]
	return nil
}

func (h memHandle) Sync() error {
	h.node.durable = bytes.Clone(h.node.data)
	return nil
}

func (h memHandle) Stat() (fs.FileInfo, error) { return memInfo(h), nil }
func (h memHandle) Close() error               { return nil }

type memInfo memHandle

func (i memInfo) Name() string       { return filepath.Base(i.name) }
func (i memInfo) Size() int64        { return int64(len(i.node.data)) }
func (i memInfo) Mode() fs.FileMode  { return i.node.mode }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return false }
func (i memInfo) Sys() any           { return i.node }
