package hosts

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	begin = GuardBegin + "\n"
	end   = GuardEnd + "\n"
	block = begin + "10.0.0.2\tapi.x\n10.0.0.1\tapi.x\n" + end
)

var apiEntries = []Entry{entry("10.0.0.2", "api.x"), entry("10.0.0.1", "api.x")}

func TestRender(t *testing.T) {
	tests := []struct {
		name     string
		content  string
		want     string
		repaired string // part of it; "" means none
	}{
		{name: "an empty file gets the block", content: "", want: block},
		{name: "the first block goes to the end", content: "127.0.0.1 localhost\n", want: "127.0.0.1 localhost\n" + block},
		{
			name:    "a last line without a line end stays so, and the block goes above it",
			content: "127.0.0.1 localhost\n::1 localhost",
			want:    "127.0.0.1 localhost\n" + block + "::1 localhost",
		},
		{name: "a single line without a line end stays last", content: "127.0.0.1 localhost", want: block + "127.0.0.1 localhost"},
		{
			name:    "the block stays where it is",
			content: "a\n\n" + begin + "10.0.0.7\told.x\n" + end + "\nb\n",
			want:    "a\n\n" + block + "\nb\n",
		},
		{
			name:    "an end guard that lost its line end at the end of the file gets it back",
			content: "a\n" + begin + GuardEnd,
			want:    "a\n" + block,
		},
		{
			name:    "CRLF lines, blanks and odd bytes outside the block are kept",
			content: "a\r\n \t\r\n\xff\xfe\x00\n" + begin + end + "\r\nb \t\r\n\n\n",
			want:    "a\r\n \t\r\n\xff\xfe\x00\n" + block + "\r\nb \t\r\n\n\n",
		},
		{
			name:    "guards with white space around them are those of a block, as for kOps",
			content: "a\n \t" + GuardBegin + "\r\n10.0.0.7\tapi.x\r\n" + GuardEnd + " \r\nb\n",
			want:    "a\n" + block + "b\n",
		},
		{
			name:    "the block of another program is not ours",
			content: "# Begin host entries managed by etcd-manager[etcd] - do not edit\n10.0.0.7\tapi.x\n# End host entries managed by etcd-manager[etcd]\n",
			want:    "# Begin host entries managed by etcd-manager[etcd] - do not edit\n10.0.0.7\tapi.x\n# End host entries managed by etcd-manager[etcd]\n" + block,
		},
		{
			name:     "of several blocks the first place is kept, with the lines in between",
			content:  "a\n" + begin + "10.0.0.7\tapi.x\n" + end + "b\n" + begin + "10.0.0.8\tapi.x\n" + end + "c\n",
			want:     "a\n" + block + "b\nc\n",
			repaired: "line 6: another block",
		},
		{
			name:     "a begin without an end does not eat the rest of the file",
			content:  "a\n" + begin + "10.0.0.7\tapi.x\n10.0.0.8\tAPI.x\n10.0.0.9\tother\n10.0.0.7\tapi.x\n",
			want:     "a\n" + block + "10.0.0.9\tother\n10.0.0.7\tapi.x\n",
			repaired: "line 2: begin guard without an end guard; it goes, with 2 entries of ours below it",
		},
		{
			name:     "below a lone begin a line not in our exact format is foreign",
			content:  begin + "10.0.0.7 api.x\n",
			want:     block + "10.0.0.7 api.x\n",
			repaired: "line 1",
		},
		{
			name:     "below a lone begin a line that also names something foreign is foreign",
			content:  begin + "10.0.0.7\tapi.x db\n",
			want:     block + "10.0.0.7\tapi.x db\n",
			repaired: "line 1",
		},
		{
			name:     "a lone begin as unterminated last line",
			content:  "a\n" + GuardBegin,
			want:     "a\n" + block,
			repaired: "line 2",
		},
		{
			name:     "an end without a begin goes, with our entries above it",
			content:  "10.0.0.7\tother\n10.0.0.7\tapi.x\n" + end + "b\n",
			want:     "10.0.0.7\tother\n" + block + "b\n",
			repaired: "line 3: end guard without a begin guard; it goes, with 1 entries of ours above it",
		},
		{
			name:     "an end before a begin leaves the lines in between",
			content:  "a\n" + end + "b\n" + begin + "c\n",
			want:     "a\n" + block + "b\nc\n",
			repaired: "line 4",
		},
		{
			name:     "the first of two begins is the stray one",
			content:  "a\n" + begin + "b\n" + begin + "10.0.0.7\told.x\n" + end + "c\n",
			want:     "a\nb\n" + block + "c\n",
			repaired: "line 2",
		},
		{
			name:     "the second of two ends is the stray one",
			content:  begin + "10.0.0.7\told.x\n" + end + "b\n" + end + "c\n",
			want:     block + "b\nc\n",
			repaired: "line 5",
		},
		{
			name:     "an end guard spoiled by an appending program does not cost the lines after it",
			content:  begin + "10.0.0.7\tapi.x\n" + GuardEnd + "1.2.3.4 foo\n5.6.7.8 bar\n",
			want:     block + GuardEnd + "1.2.3.4 foo\n5.6.7.8 bar\n",
			repaired: "line 1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, repaired, err := Render([]byte(tt.content), apiEntries)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("content differs (-want +got):\n%s", diff)
			}
			if (tt.repaired == "") != (repaired == "") || !strings.Contains(repaired, tt.repaired) {
				t.Errorf("got repaired %q, want %q in it", repaired, tt.repaired)
			}
			again, repaired, err := Render(got, apiEntries)
			if err != nil || repaired != "" || !bytes.Equal(again, got) {
				t.Errorf("rendering again gave %q, repaired %q, error %v; want no change", again, repaired, err)
			}
		})
	}
}

func TestRenderRefusesAnEmptyList(t *testing.T) {
	if out, _, err := Render([]byte(block), nil); !errors.Is(err, ErrEmpty) || out != nil {
		t.Errorf("got %q, error %v; want nothing and ErrEmpty", out, err)
	}
}

func TestStripTakesTheBlockOutAndNothingElse(t *testing.T) {
	for _, content := range []string{"", "a", "a\n", "a\r\n\r\nb", "\n\n", "a\n\xff\x00"} {
		with, _, err := Render([]byte(content), apiEntries)
		if err != nil {
			t.Fatal(err)
		}
		got, repaired := Strip(with)
		if string(got) != content || repaired != "" {
			t.Errorf("render and strip of %q gave %q, repaired %q; want the same", content, got, repaired)
		}
	}
	got, repaired := Strip([]byte("a\n" + begin + "10.0.0.7\tapi.x\nb\n"))
	if want := "a\n10.0.0.7\tapi.x\nb\n"; string(got) != want || repaired == "" {
		t.Errorf("stripping a lone begin gave %q, repaired %q; want %q and a report", got, repaired, want)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		content string
		want    Block
	}{
		{"a file without a block", "127.0.0.1 localhost\n", Block{}},
		{
			"a block with a comment and a bad line",
			"a\n" + begin + "10.0.0.2\tapi.x kops.x\r\n# note\nnonsense\n" + end,
			Block{
				Present: true,
				Lines:   []string{"10.0.0.2\tapi.x kops.x", "# note", "nonsense"},
				Entries: []Entry{entry("10.0.0.2", "api.x", "kops.x")},
			},
		},
		{
			"two blocks",
			begin + "10.0.0.2\tapi.x\n" + end + begin + "10.0.0.1\tapi.x\n" + end,
			Block{
				Present: true,
				Lines:   []string{"10.0.0.2\tapi.x", "10.0.0.1\tapi.x"},
				Entries: apiEntries,
				Fault:   "line 4: another block; only the first one is kept",
			},
		},
		{
			"a begin without an end",
			begin + "10.0.0.2\tapi.x\n",
			Block{Fault: "line 1: begin guard without an end guard; it goes, with 0 entries of ours below it"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Parse([]byte(tt.content))
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("block differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	tests := []struct {
		name    string
		content string
		ask     string
		want    []string
	}{
		{"all lines in file order, in the block or not", "10.0.0.9 api.x\n" + block, "api.x", []string{"10.0.0.9", "10.0.0.2", "10.0.0.1"}},
		{"names compare without regard to case", "10.0.0.9 Api.X\n", "aPI.x", []string{"10.0.0.9"}},
		{"only letters of ASCII have a case", "10.0.0.9 \u212aops\n", "kops", nil},
		{"aliases count", "10.0.0.9 a b\tc\vd\fe\r\n", "e", []string{"10.0.0.9"}},
		{"leading white space is skipped", " \t10.0.0.9 a\n", "a", []string{"10.0.0.9"}},
		{"a comment ends a line anywhere", "10.0.0.9 a#b c\n# 10.0.0.8 a\n", "b", nil},
		{"the part before a comment counts", "10.0.0.9 a#b c\n", "a", []string{"10.0.0.9"}},
		{"a NUL ends a line", "10.0.0.9 a\x00 b\n", "b", nil},
		{"a trailing dot is another name", "10.0.0.9 a\n", "a.", nil},
		{"an address twice is returned once", "10.0.0.9 a\n10.0.0.8 a\n10.0.0.9 a\n", "a", []string{"10.0.0.9", "10.0.0.8"}},
		{"a mapped address is IPv4", "::ffff:10.0.0.9 a\n", "a", []string{"10.0.0.9"}},
		{"zones, leading zeros and nonsense are skipped", "fe80::1%lo a\n010.0.0.1 a\n10.1 a\nx a\nfd00::1 a", "a", []string{"fd00::1"}},
		{"an address is not a name of itself", "10.0.0.9\n", "10.0.0.9", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, addr := range Lookup([]byte(tt.content), tt.ask) {
				got = append(got, addr.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("addresses differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	tests := []struct {
		name         string
		wrote, found []string
		want         ForeignEdit
	}{
		{"nothing changed", []string{"a", "b"}, []string{"a", "b"}, ForeignEdit{}},
		{"a line added", []string{"a"}, []string{"x", "a"}, ForeignEdit{Added: []string{"x"}}},
		{"a line repeated", []string{"a"}, []string{"a", "a"}, ForeignEdit{Added: []string{"a"}}},
		{"all lines gone", []string{"a", "b"}, nil, ForeignEdit{Removed: []string{"a", "b"}}},
		{"a line changed", []string{"a", "b"}, []string{"a", "c"}, ForeignEdit{Added: []string{"c"}, Removed: []string{"b"}}},
		{"another order", []string{"a", "b"}, []string{"b", "a"}, ForeignEdit{Reordered: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := compare(tt.wrote, tt.found)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("edit differs (-want +got):\n%s", diff)
			}
			if got.Any() != !cmp.Equal(tt.wrote, tt.found) {
				t.Errorf("Any is %v for %v and %v", got.Any(), tt.wrote, tt.found)
			}
		})
	}
}
