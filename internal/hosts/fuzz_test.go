package hosts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzRender(f *testing.F) {
	names := "api.internal.x.k8s.local kops-controller.internal.x.k8s.local"
	for _, content := range []string{
		"",
		"127.0.0.1 localhost",
		"127.0.0.1\tlocalhost\r\n::1 localhost\r\n",
		"a\n" + begin + "10.0.0.1\tapi.internal.x.k8s.local\n" + end + "b\n",
		"a\n" + begin + "10.0.0.1\tapi.internal.x.k8s.local\nb\n",
		"10.0.0.1\tapi.internal.x.k8s.local\n" + end + begin + "b",
		begin + begin + end + end + begin + end,
		" " + GuardBegin + "\r\n\t" + GuardEnd,
		"\x00\xff\n\u0085" + GuardBegin + "\u00a0\n",
	} {
		f.Add([]byte(content), names, []byte{10, 0, 0, 2, 10, 0, 0, 1})
	}
	f.Fuzz(func(t *testing.T, content []byte, names string, addrs []byte) {
		entries := fuzzEntries(names, addrs)
		before := bytes.Clone(content)
		out, _, err := Render(content, entries)
		if !bytes.Equal(content, before) {
			t.Fatal("Render has modified its input")
		}
		if err != nil {
			if out != nil {
				t.Fatalf("got content %q with error %v", out, err)
			}
			return
		}
		checkOutside(t, content, out, entries)
		again, repaired, err := Render(out, entries)
		if err != nil || repaired != "" || !bytes.Equal(again, out) {
			t.Fatalf("rendering again is not the same: repaired %q, error %v\n%q\n%q", repaired, err, out, again)
		}
		b := Parse(out)
		if !b.Present || b.Fault != "" {
			t.Fatalf("block present %v, fault %q in %q", b.Present, b.Fault, out)
		}
		inBlock := []byte(strings.Join(b.Lines, "\n"))
		for _, e := range entries {
			for _, name := range e.Names {
				want := preference(entries, name)
				if got := Lookup(inBlock, name); !slices.Equal(got, want) {
					t.Fatalf("%q resolves to %v, want %v in the order given", name, got, want)
				}
			}
		}
	})
}

// preference returns the addresses of name in the order of entries.
func preference(entries []Entry, name string) []netip.Addr {
	var addrs []netip.Addr
	for _, e := range entries {
		if e.has(name) && !slices.Contains(addrs, e.Addr.Unmap()) {
			addrs = append(addrs, e.Addr.Unmap())
		}
	}
	return addrs
}

// fuzzEntries gives each address, four bytes or sixteen when the first is odd, the names rotated by its index,
// so that the names disagree about the order.
func fuzzEntries(names string, addrs []byte) []Entry {
	list := strings.Split(names, " ")
	var entries []Entry
	for len(addrs) >= 4 && len(entries) < 8 {
		n := 4
		if addrs[0]%2 == 1 && len(addrs) >= 16 {
			n = 16
		}
		addr, _ := netip.AddrFromSlice(addrs[:n])
		turn := len(entries) % len(list)
		entries = append(entries, Entry{Addr: addr, Names: append(slices.Clone(list[turn:]), list[:turn]...)})
		addrs = addrs[n:]
	}
	return entries
}

// checkOutside is an independent statement of what may not change: a line that is not a guard, is not enclosed
// by a begin guard and the end guard next to it, and does not read as an entry of ours for one of our names,
// must be in the new file, byte for byte and in order; and nothing else may be outside its block.
func checkOutside(t *testing.T, before, after []byte, entries []Entry) {
	t.Helper()
	want, got := outside(before, entries), outside(after, entries)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("lines outside the block differ (-before +after):\n%s\nbefore %q\nafter  %q", diff, before, after)
	}
	if ours := bytes.Count(after, []byte(GuardBegin+"\n")); ours == 0 {
		t.Fatalf("no block in %q", after)
	}
}

func outside(content []byte, entries []Entry) []string {
	lines := strings.SplitAfter(string(content), "\n")
	kind := func(i int) string { return strings.TrimSpace(lines[i]) }
	isGuard := func(i int) bool { return kind(i) == GuardBegin || kind(i) == GuardEnd }
	var kept []string
	for i, line := range lines {
		if isGuard(i) {
			continue
		}
		above, below := i-1, i+1
		for above >= 0 && !isGuard(above) {
			above--
		}
		for below < len(lines) && !isGuard(below) {
			below++
		}
		if above >= 0 && below < len(lines) && kind(above) == GuardBegin && kind(below) == GuardEnd {
			continue
		}
		if addr, names, ok := strings.Cut(line, "\t"); ok && !strings.Contains(addr, " ") && namesOurs(names, entries) {
			continue
		}
		if line != "" {
			kept = append(kept, line)
		}
	}
	return kept
}

func namesOurs(names string, entries []Entry) bool {
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\n"), " ") {
		if !slices.ContainsFunc(entries, func(e Entry) bool { return e.has(name) }) {
			return false
		}
	}
	return true
}

// FuzzDecodeChange gives each input a checksum that matches, because no fuzzer would find one.
func FuzzDecodeChange(f *testing.F) {
	f.Add([]byte(`{"version":1,"path":"/etc/hosts","oldBytes":2,"nextBytes":2}` + "\na\nb\n"))
	f.Add([]byte(`{"version":1,"oldBytes":-1,"nextBytes":3}` + "\nab"))
	f.Add([]byte(`{"version":2}` + "\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		c, err := decodeChange(append([]byte(checksumLabel+hex.EncodeToString(sum[:])+"\n"), body...))
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatalf("got error %v, want errDamaged", err)
			}
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := decodeChange(again); err != nil || d.path != c.path || !bytes.Equal(d.old, c.old) || !bytes.Equal(d.next, c.next) {
			t.Fatalf("decoding what was encoded gave %v, error %v; want %v", d, err, c)
		}
	})
}
