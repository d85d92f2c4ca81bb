package seeds_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/seeds"
)

func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		want          []string
		fault         string
	}{
		{name: "an empty file has no seeds"},
		{name: "one a line, with port or without", content: "10.0.0.1\n10.0.0.2:3999\nfd00::1\n[fd00::2]:3999", want: []string{"10.0.0.1:0", "10.0.0.2:3999", "[fd00::1]:0", "[fd00::2]:3999"}},
		{name: "remarks, blanks and line ends of Windows", content: "# seeds\r\n\r\n  10.0.0.1 # first\r\n", want: []string{"10.0.0.1:0"}},
		{name: "a name is refused, what stands before it stays", content: "10.0.0.1\napi.example\n10.0.0.2\n", want: []string{"10.0.0.1:0"}, fault: `:2: "api.example" is not an address`},
		{name: "port 0 is refused", content: "10.0.0.1:0\n", fault: "is not an address"},
		{name: "a huge file is refused", content: strings.Repeat("# no seeds\n", 1<<17), fault: "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seeds")
			if err := os.WriteFile(path, []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			var got []string
			all, err := seeds.File(path)
			for _, a := range all {
				got = append(got, a.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("error %v, want %q in it", err, tt.fault)
			}
		})
	}
	if _, err := seeds.File(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a missing file gave %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.1:3999", "[fd00::1]:4000", "fd00::1%eth0", ":3999", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := seeds.Parse(s)
		if err == nil && !a.Addr().IsValid() {
			t.Errorf("%q gave %v", s, a)
		}
		if err == nil && a == (netip.AddrPort{}) {
			t.Errorf("%q gave nothing", s)
		}
	})
}
