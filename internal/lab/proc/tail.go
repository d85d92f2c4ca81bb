package proc

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// tailBytes bounds how much of the end of a log Tail reads.
const tailBytes = 64 << 10

// Tail returns the last n lines of the process's log, without the final line break, for error messages. It is "" if
// there is no log or it is empty, and an explanation in brackets if the log cannot be read.
func (p *Process) Tail(n int) string {
	if p.spec.LogFile == "" {
		return ""
	}
	end, err := readEnd(p.spec.LogFile, tailBytes)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return lastLines(end, n)
}

// readEnd returns the last max bytes of a file.
func readEnd(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, info.Size()-min(max, info.Size()), max))
}

// lastLines returns the last n lines of text.
func lastLines(text []byte, n int) string {
	text = bytes.TrimRight(text, "\r\n")
	start := len(text)
	for range n {
		start = bytes.LastIndexByte(text[:start], '\n')
		if start < 0 {
			return string(text)
		}
	}
	return string(text[min(start+1, len(text)):])
}
