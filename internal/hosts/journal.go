package hosts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// change is one replacement of the hosts file's content. While under way it is in the state directory as the journal;
// once it is applied, the journal is renamed to become the record of the last write.
type change struct {
	// path is the hosts file that the change is for.
	path string
	// old and next are the complete contents before and after. Telling a torn file from one that somebody else has
	// edited takes both.
	old, next []byte
}

// changeHeader is the second line of an encoded change. Both contents follow verbatim, so that a person can read the
// file.
type changeHeader struct {
	Version int    `json:"version"`
	Path    string `json:"path"`
	Old     int    `json:"oldBytes"`
	Next    int    `json:"nextBytes"`
}

const (
	changeVersion = 1
	checksumLabel = "sha256:"
	// maxChangeSize holds two contents and the header.
	maxChangeSize = 2*MaxSize + 64<<10
)

// encode returns the change with a checksum over all of it in the first line.
func (c change) encode() ([]byte, error) {
	header, err := json.Marshal(changeHeader{Version: changeVersion, Path: c.path, Old: len(c.old), Next: len(c.next)})
	if err != nil {
		return nil, err
	}
	body := bytes.Join([][]byte{header, []byte("\n"), c.old, c.next}, nil)
	sum := sha256.Sum256(body)
	return append([]byte(checksumLabel+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

var errDamaged = errors.New("not a journal of this program, or damaged")

// decodeChange is the reverse of encode. Anything but the exact output of encode is errDamaged.
func decodeChange(data []byte) (change, error) {
	first, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return change{}, fmt.Errorf("%w: no first line", errDamaged)
	}
	sum := sha256.Sum256(body)
	if string(first) != checksumLabel+hex.EncodeToString(sum[:]) {
		return change{}, fmt.Errorf("%w: checksum does not match", errDamaged)
	}
	line, contents, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return change{}, fmt.Errorf("%w: no header", errDamaged)
	}
	var h changeHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return change{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if h.Version != changeVersion {
		return change{}, fmt.Errorf("%w: version %d; this program knows %d", errDamaged, h.Version, changeVersion)
	}
	if h.Old < 0 || h.Next < 0 || h.Old > len(contents) || h.Next != len(contents)-h.Old {
		return change{}, fmt.Errorf("%w: %d bytes of content, %d and %d announced", errDamaged, len(contents), h.Old, h.Next)
	}
	return change{path: h.Path, old: contents[:h.Old], next: contents[h.Old:]}, nil
}

// fileState is the state of a hosts file with respect to an unfinished change.
type fileState int

const (
	// stateForeign: none of the others, so somebody else has written to it since.
	stateForeign fileState = iota
	// stateOld: the write did not begin.
	stateOld
	// stateNext: the write was finished.
	stateNext
	// stateTorn: a mix of both contents that an interrupted write of ours leaves.
	stateTorn
)

// sector is the smallest unit that a disk writes whole.
const sector = 512

// classify returns the state of content. Only mixes that an interrupted overwrite can leave count as torn, so that
// nobody's edit is mistaken for one and undone:
//
//   - a killed process leaves a head of the new content on the tail of the old one, or the new content with
//     padding that was not cut off yet;
//   - a power failure leaves sectors of either, in any arrangement, at any size that the file had on the way,
//     and zeros where the file had grown but the data did not get to the disk, or where it was being cut off.
func (c change) classify(content []byte) fileState {
	switch {
	case bytes.Equal(content, c.old):
		return stateOld
	case bytes.Equal(content, c.next):
		return stateNext
	}
	written := c.next // the data of the pwrite
	grows := len(c.next) >= len(c.old)
	if !grows {
		written = pad(c.next, len(c.old))
	}
	switch n := len(content); {
	case grows && (n < len(c.old) || n > len(c.next)):
		return stateForeign
	case !grows && n != len(c.old) && n != len(c.next):
		return stateForeign
	case isPrefixMix(content, written, c.old), isSectorMix(content, written, c.old, c.next):
		return stateTorn
	}
	return stateForeign
}

// isPrefixMix reports whether content is a prefix of written followed by the rest of old.
func isPrefixMix(content, written, old []byte) bool {
	head := 0
	for head < len(content) && content[head] == written[head] {
		head++
	}
	return head == len(content) || len(content) == len(old) && bytes.Equal(content[head:], old[head:])
}

// isSectorMix reports whether each sector of content is that of one of the versions. Past its end, a version reads as
// zeros.
func isSectorMix(content []byte, versions ...[]byte) bool {
	for at := 0; at < len(content); at += sector {
		end := min(at+sector, len(content))
		if !slices.ContainsFunc(versions, func(v []byte) bool {
			return bytes.Equal(content[at:end], padZero(v, at, end))
		}) {
			return false
		}
	}
	return true
}

// padZero returns content[at:end], with zeros past the end of content.
func padZero(content []byte, at, end int) []byte {
	part := make([]byte, end-at)
	if at < len(content) {
		copy(part, content[at:])
	}
	return part
}
