// Package seeds parses the seed addresses of an overlay, from flags and from a file that is maintained externally. It
// discovers none.
package seeds

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
)

// maxFile bounds a seed file, in bytes: enough for thousands of addresses.
const maxFile = 1 << 20

// Parse reads one address with or without a port; port 0 in the result means none.
func Parse(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, 0), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address, nor ADDRESS:PORT", text)
	}
	return addr, nil
}

// File reads the addresses in a file, one per line; # begins a comment. An error names the file and the line; the seeds
// before it are returned too, since some are better than none.
func File(path string) (all []netip.AddrPort, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes; not a list of seeds", path, maxFile)
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		addr, err := Parse(text)
		if err != nil {
			return all, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		all = append(all, addr)
	}
	return all, nil
}
