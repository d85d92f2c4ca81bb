package spec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Append is the index of a new last element.
const Append = -1

// Step is one element of a path: a key of a mapping, or an index of a list.
type Step struct {
	Key   string
	Index int
	List  bool // the step is an index
}

// Path is a field of a document: spec.subnets[0].cidr.
type Path []Step

var (
	plainKey  = regexp.MustCompile(`^[A-Za-z0-9_/\-]+`)
	indexStep = regexp.MustCompile(`^\[([0-9]{1,6}|\+)\]`)
	quotedKey = regexp.MustCompile(`^\["((?:[^"\\]|\\.)+)"\]`)
)

// ParsePath reads a path. Keys are separated by dots; a key that contains dots is quoted, as in
// metadata.labels["kops.k8s.io/cluster"]. Indices count from 0, and [+] appends.
func ParsePath(s string) (Path, error) {
	var p Path
	for rest := s; rest != ""; {
		if m := indexStep.FindStringSubmatch(rest); m != nil && len(p) > 0 {
			index := Append
			if m[1] != "+" {
				index, _ = strconv.Atoi(m[1])
			}
			p = append(p, Step{Index: index, List: true})
			rest = rest[len(m[0]):]
			continue
		}
		if m := quotedKey.FindStringSubmatch(rest); m != nil {
			key, err := strconv.Unquote(`"` + m[1] + `"`)
			if err != nil {
				return nil, badPath(s)
			}
			p = append(p, Step{Key: key})
			rest = rest[len(m[0]):]
			continue
		}
		if len(p) > 0 {
			after, ok := strings.CutPrefix(rest, ".")
			if !ok {
				return nil, badPath(s)
			}
			rest = after
		}
		key := plainKey.FindString(rest)
		if key == "" {
			return nil, badPath(s)
		}
		p = append(p, Step{Key: key})
		rest = rest[len(key):]
	}
	if len(p) == 0 {
		return nil, badPath(s)
	}
	return p, nil
}

func badPath(s string) error {
	return fmt.Errorf(`%q is no path; write it as spec.topology.dns.type, spec.subnets[0].cidr or metadata.labels["kops.k8s.io/cluster"]`, clip(s))
}

// String returns what [ParsePath] reads.
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.List && s.Index == Append:
			b.WriteString("[+]")
		case s.List:
			fmt.Fprintf(&b, "[%d]", s.Index)
		case plainKey.FindString(s.Key) != s.Key || s.Key == "":
			fmt.Fprintf(&b, "[%q]", s.Key)
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Key)
		}
	}
	return b.String()
}
