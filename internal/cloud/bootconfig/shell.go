package bootconfig

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	// hereDoc matches the operator of a here-document: the dash that strips
	// tabs, the quote or backslash that switches expansion off, the delimiter.
	hereDoc = regexp.MustCompile(`<<(-?)[ \t]*(?:(["'\\]?)([A-Za-z_][A-Za-z0-9_.]*)["']?)`)
	// writesBoot matches a redirection or a tee to the boot YAML's file.
	writesBoot = regexp.MustCompile(`(?:>|\btee\b(?:[ \t]+-\S+)*)[ \t]*["']?(?:[^\s"'|<>;&]*/)?` + regexp.QuoteMeta(fileName) + `\b`)
	// base64Text matches base64 text on a line.
	base64Text = regexp.MustCompile(`["']?([A-Za-z0-9+/]{16,}={0,2})["']?`)
	// decodesBase64 and unzipped match the decoders of a pipeline.
	decodesBase64 = regexp.MustCompile(`\bbase64[ \t]+(?:-\w[ \t]+)*(?:-d|-D|--decode)\b`)
	decodesGzip   = regexp.MustCompile(`\b(?:gzip[ \t]+(?:-\w*[ \t]+)*-\w*d\w*|gzip[ \t]+--decompress|gunzip|zcat)\b`)

	release    = regexp.MustCompile(`/kops/v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?)/`)
	assignment = regexp.MustCompile(`(?m)(?:^|[ \t;"'])([A-Z][A-Z0-9_]*)=("?'?)([^\s"';]*)`)
)

// shell finds the boot YAML in a shell script: in a here-document, or in base64 text piped through decoders.
func (f *unpacker) shell(text []byte, depth int) error {
	f.scan(text)
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		var (
			body    []byte
			literal = true
			here    = parseHere(line)
		)
		switch {
		case here != nil:
			if f.hereDocs++; f.hereDocs > maxHereDocs {
				return fmt.Errorf("user-data has more than %d here-documents", maxHereDocs)
			}
			end := here.end(lines, i+1)
			if end < 0 {
				if writesBoot.MatchString(line) {
					return fmt.Errorf("user-data breaks off: the here-document of %s has no last line %s", fileName, clip(here.delimiter))
				}
				continue // an arithmetic shift, or a script that does not concern us
			}
			body, literal = here.body(lines[i+1:end]), here.literal
			i = end
		case writesBoot.MatchString(line):
			m := base64Text.FindStringSubmatch(line)
			if m == nil || !decodesBase64.MatchString(line) {
				return fmt.Errorf("user-data makes %s by a command whose result cannot be told", fileName)
			}
			body = []byte(m[1])
		default:
			continue
		}
		if !writesBoot.MatchString(line) {
			if err := f.embedded(body, depth); err != nil {
				return err
			}
			continue
		}
		if !literal && bytes.ContainsAny(body, "$`\\") {
			return fmt.Errorf("user-data leaves parts of %s to the shell: what they become cannot be told", fileName)
		}
		body, err := f.pipeline(line, body)
		if err != nil {
			return err
		}
		if err := f.setBoot(body); err != nil {
			return err
		}
	}
	return nil
}

// embedded unpacks a here-document of another file, such as a script that contains the boot YAML.
func (f *unpacker) embedded(body []byte, depth int) error {
	if !bytes.Contains(body, []byte(fileName)) {
		return nil
	}
	return f.walk(body, depth+1)
}

// pipeline applies the decoders of a line's pipeline.
func (f *unpacker) pipeline(line string, body []byte) ([]byte, error) {
	var err error
	if decodesBase64.MatchString(line) {
		if body, err = f.unbase64(body); err != nil {
			return nil, err
		}
	}
	if decodesGzip.MatchString(line) {
		if body, err = f.gunzip(body); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// here is the operator of a here-document.
type here struct {
	delimiter string
	tabs      bool // leading tabs are dropped
	literal   bool // the shell expands nothing in it
}

// parseHere returns the here-document that a line opens, or nil.
func parseHere(line string) *here {
	for _, m := range hereDoc.FindAllStringSubmatchIndex(line, -1) {
		// "<<<" is a here-string, which has no body.
		if m[0] > 0 && line[m[0]-1] == '<' {
			continue
		}
		return &here{
			delimiter: line[m[6]:m[7]],
			tabs:      m[2] != m[3],
			literal:   m[4] != m[5],
		}
	}
	return nil
}

// end returns the index of the line that ends the here-document, or -1.
func (h *here) end(lines []string, from int) int {
	for i, line := range lines[from:] {
		if h.tabs {
			line = strings.TrimLeft(line, "\t")
		}
		if line == h.delimiter {
			return from + i
		}
	}
	return -1
}

func (h *here) body(lines []string) []byte {
	if h.tabs {
		lines = slices.Clone(lines)
		for i := range lines {
			lines[i] = strings.TrimLeft(lines[i], "\t")
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// scan records the kOps release and the names of variables with secrets.
func (f *unpacker) scan(text []byte) {
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if bytes.Contains(line, []byte("NODEUP_URL")) {
			for _, m := range release.FindAllSubmatch(line, -1) {
				f.releases[string(m[1])] = true
			}
		}
	}
	for _, m := range assignment.FindAllSubmatch(text, -1) {
		if name := string(m[1]); len(m[3]) > 0 && isSecret(name) {
			f.credentials[name] = true
		}
	}
}

// isSecret reports whether a variable of this name is a credential or part of one, and not merely where to log in.
func isSecret(name string) bool {
	switch name {
	case "AWS_ACCESS_KEY_ID", "S3_ACCESS_KEY_ID", "SCW_ACCESS_KEY",
		"OS_USERNAME", "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME",
		"AZURE_STORAGE_KEY", "AZURE_CLIENT_ID":
		return true
	}
	for _, suffix := range []string{"_TOKEN", "_SECRET", "_PASSWORD", "_SECRET_KEY", "_SECRET_ACCESS_KEY", "_ACCESS_TOKEN"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
