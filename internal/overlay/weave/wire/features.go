package wire

import (
	"errors"
	"fmt"
	"strconv"
)

// maxNick bounds a nickname in bytes; it is kept for as long as the peer is known.
const maxNick = 1024

// Features is what each end sends about itself first.
type Features struct {
	Name       Name
	NickName   string // the node name, for people
	UID        uint64 // random, new at each start of the peer; never 0
	ConnID     uint64 // random, new for each connection
	ShortID    uint16 // less than 4096; nothing in kOps depends on it
	HasShortID bool
}

// featureType defines type 64 as a map from string to string.
const featureType = "\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x0c\x01\x0c\x00\x00"

// Append appends the features as encoded in the first frame.
func (f Features) Append(dst []byte) []byte {
	pairs := make([]string, 0, 14)
	pairs = append(pairs, "PeerNameFlavour", flavour)
	if f.HasShortID {
		pairs = append(pairs, "ShortID", strconv.FormatUint(uint64(f.ShortID), 10))
	}
	pairs = append(pairs,
		"Trusted", "false",
		"Name", f.Name.String(),
		"NickName", f.NickName,
		"UID", strconv.FormatUint(f.UID, 10),
		"ConnID", strconv.FormatUint(f.ConnID, 10),
	)
	body := append([]byte{0xff, 0x80, 0}, byte(len(pairs)/2)) // type 64, zero, count
	for _, s := range pairs {
		body = appendGobText(body, s)
	}
	dst = append(dst, featureType...)
	return appendGobText(dst, body)
}

// ParseFeatures parses the first frame of a connection.
func ParseFeatures(frame []byte) (Features, error) {
	var f Features
	values, err := parseStringMap(frame)
	if err != nil {
		return f, fmt.Errorf("features: %w", err)
	}
	required := func(key string) string {
		v, ok := values[key]
		if !ok && err == nil {
			err = fmt.Errorf("features: %s is missing", key)
		}
		return v
	}
	number := func(key, text string, bits int) uint64 {
		n, parseErr := strconv.ParseUint(text, 10, bits)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("features: %s %.40q is not a number of %d bits", key, text, bits)
		}
		return n
	}
	if got := required("PeerNameFlavour"); err == nil && got != flavour {
		return f, fmt.Errorf("features: peer names of flavour %.40q; kOps uses %q", got, flavour)
	}
	name := required("Name")
	f.NickName = required("NickName")
	f.UID = number("UID", required("UID"), 64)
	f.ConnID = number("ConnID", required("ConnID"), 64)
	if short, ok := values["ShortID"]; ok {
		f.ShortID, f.HasShortID = uint16(number("ShortID", short, 12)), true
	}
	if err != nil {
		return f, err
	}
	if f.UID == 0 {
		return f, errors.New("features: UID 0 stands for a peer never heard of")
	}
	if len(f.NickName) > maxNick {
		return f, fmt.Errorf("features: nickname of %d bytes; at most %d", len(f.NickName), maxNick)
	}
	f.Name, err = ParseName(name)
	return f, err
}

func parseStringMap(b []byte) (map[string]string, error) {
	r := gobReader{rest: b}
	id, c, err := r.next()
	if err != nil {
		return nil, err
	}
	t := r.types[id]
	if t == nil || t.kind != gobMap || t.key != gobString || t.elem != gobString {
		return nil, errors.New("gob: not a map from string to string")
	}
	n := c.count()
	values := make(map[string]string)
	for i := 0; i < n && c.err == nil; i++ {
		key := string(c.bytes())
		values[key] = string(c.bytes())
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = errors.New("gob: bytes after the value")
	}
	return values, c.err
}
