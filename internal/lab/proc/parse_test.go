package proc

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLastLines(t *testing.T) {
	tests := []struct {
		name string
		text string
		n    int
		want string
	}{
		{"nothing was written", "", 3, ""},
		{"fewer lines than asked for", "a\nb\n", 3, "a\nb"},
		{"more lines than asked for", "a\nb\nc\n", 2, "b\nc"},
		{"the last line is not finished", "a\nb", 1, "b"},
		{"blank lines at the end do not count", "a\nb\n\n\n", 1, "b"},
		{"blank lines between do count", "a\n\nb\n", 2, "\nb"},
		{"no lines are asked for", "a\n", 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := lastLines([]byte(test.text), test.n); got != test.want {
				t.Errorf("lastLines(%q, %d) = %q, want %q", test.text, test.n, got, test.want)
			}
		})
	}
}

func TestTailReadsOnlyTheEndOfALongLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := "the beginning\n" + strings.Repeat("noise\n", 100_000) + "the end\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Process{spec: Spec{LogFile: path}}
	if got := p.Tail(1); got != "the end" {
		t.Errorf("Tail(1) = %q, want the end", got)
	}
	if got := p.Tail(1_000_000); len(got) > tailBytes {
		t.Errorf("Tail returned %d bytes, want at most %d", len(got), tailBytes)
	}
	p = &Process{spec: Spec{LogFile: filepath.Join(t.TempDir(), "missing")}}
	if got := p.Tail(1); !strings.HasPrefix(got, "(no log: ") {
		t.Errorf("Tail of a missing log = %q, want an explanation", got)
	}
}

func TestParseStat(t *testing.T) {
	const fields = " S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 7 0 12345 1000 200"
	tests := []struct {
		name    string
		stat    string
		cpu     time.Duration
		threads int
		wantErr string
	}{
		{"a plain name", "42 (muster)" + fields, 1750 * time.Millisecond, 7, ""},
		{"a name made to confuse", "42 (a) Z 1 (b c)" + fields, 1750 * time.Millisecond, 7, ""},
		{"a zombie", "42 (muster)" + strings.Replace(fields, "S", "Z", 1), 0, 0, "os: process already finished"},
		{"no name", "42 muster S", 0, 0, `stat "42 muster S" has no program name`},
		{"too short", "42 (muster) S 1 2", 0, 0, "stat has 3 fields after the name, want more than 17"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cpu, threads, err := parseStat([]byte(test.stat))
			if test.wantErr != "" {
				if err == nil || err.Error() != test.wantErr {
					t.Errorf("got error %v, want %s", err, test.wantErr)
				}
				return
			}
			if err != nil || cpu != test.cpu || threads != test.threads {
				t.Errorf("got %s, %d threads, %v; want %s, %d threads", cpu, threads, err, test.cpu, test.threads)
			}
		})
	}
}

// The tables below are as a little-endian machine prints them.
const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11111 1 0000000000000000 100 0 0 10 0
   1: 0100D50A:01BB 0200D50A:C350 01 00000000:00000000 00:00000000 00000000     0        0 22222 1 0000000000000000 20 4 30 10 -1
`

const tcp6Table = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33333 1 0000000000000000 100 0 0 10 0
   1: 000000FD000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 44444 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55555 1 0000000000000000 100 0 0 10 0
`

func TestParseSocketTable(t *testing.T) {
	tests := []struct {
		name  string
		table string
		want  []Socket
	}{
		{"nothing is open", strings.SplitAfter(tcpTable, "\n")[0], nil},
		{"a listener and a connection", tcpTable, []Socket{
			{"tcp", netip.MustParseAddrPort("127.0.0.1:8080"), 11111},
		}},
		{"listeners of IPv6", tcp6Table, []Socket{
			{"tcp", netip.MustParseAddrPort("[::]:443"), 33333},
			{"tcp", netip.MustParseAddrPort("[fd00::1]:8081"), 44444},
			{"tcp", netip.MustParseAddrPort("127.0.0.1:8082"), 55555},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if littleEndian := [2]byte{1, 0}; !nativeIs(littleEndian) {
				t.Skip("NOT TESTED: the tables are those of a little-endian machine")
			}
			got, err := parseSocketTable(test.table, "tcp", "0A")
			if err != nil {
				t.Fatal(err)
			}
			equalAddr := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
			if diff := cmp.Diff(test.want, got, equalAddr); diff != "" {
				t.Errorf("sockets (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseSocketTable(f *testing.F) {
	f.Add(tcpTable)
	f.Add(tcp6Table)
	f.Add("header\n 0: 0100007F 0:0 0A a b c d e f\n")
	f.Fuzz(func(t *testing.T, table string) {
		sockets, err := parseSocketTable(table, "tcp", "0A")
		if err != nil {
			return
		}
		for _, socket := range sockets {
			if !socket.Local.IsValid() || socket.Local.Port() == 0 {
				t.Errorf("table %q gave the address %v", table, socket.Local)
			}
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (muster) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 7 0 12345"))
	f.Add([]byte("1 ()) S"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		cpu, _, err := parseStat(stat)
		if err == nil && cpu < 0 {
			t.Errorf("stat %q gave %s of processor time", stat, cpu)
		}
	})
}

// nativeIs tells whether this machine stores a 16-bit one as the given bytes.
func nativeIs(want [2]byte) bool {
	return [2]byte(binary.NativeEndian.AppendUint16(nil, 1)) == want
}
