package wire

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Record is a peer's record on the topology channel: who it is and which connections it has.
type Record struct {
	Name       Name
	NickName   string
	UID        uint64
	Version    uint64
	ShortID    uint16
	HasShortID bool
	Links      []Link
}

// Link is one connection as reported by its owner.
type Link struct {
	Name        Name   // the other end
	Addr        string // ip:port; dialled if Outbound, otherwise a source address
	Outbound    bool   // the record's owner dialed
	Established bool
}

// Encoded is an encoded record, to be put into any number of updates.
type Encoded struct {
	head  []byte // the gob message of the peer
	links []byte // the gob message of its connections
}

// Size returns the number of bytes the record takes in an update.
func (e Encoded) Size() int { return len(e.head) + len(e.links) }

// Definitions of the types of a record: 65 a peer, 67 a slice of 66 connections.
const (
	peerType = "\x62\xff\x81\x03\x01\x01\x0bpeerSummary\x01\xff\x82\x00\x01\x06" +
		"\x01\x08NameByte\x01\x0a\x00\x01\x08NickName\x01\x0c\x00\x01\x03UID\x01\x06\x00" +
		"\x01\x07Version\x01\x06\x00\x01\x07ShortID\x01\x06\x00\x01\x0aHasShortID\x01\x02\x00\x00\x00"
	linksType = "\x0d\xff\x85\x02\x01\x02\xff\x86\x00\x01\xff\x84\x00\x00" +
		"\x5b\xff\x83\x03\x01\x01\x11connectionSummary\x01\xff\x84\x00\x01\x04" +
		"\x01\x08NameByte\x01\x0a\x00\x01\x0dRemoteTCPAddr\x01\x0c\x00" +
		"\x01\x08Outbound\x01\x02\x00\x01\x0bEstablished\x01\x02\x00\x00\x00"
)

// fieldWriter appends the fields of a struct, leaving out zero values.
type fieldWriter struct {
	b       []byte
	skipped byte
}

func (w *fieldWriter) field(present bool) bool {
	w.skipped++
	if present {
		w.b = append(w.b, w.skipped)
		w.skipped = 0
	}
	return present
}

func (w *fieldWriter) text(s string) {
	if w.field(s != "") {
		w.b = appendGobText(w.b, s)
	}
}

func (w *fieldWriter) uint(v uint64) {
	if w.field(v != 0) {
		w.b = appendGobUint(w.b, v)
	}
}

func (w *fieldWriter) bool(v bool) {
	if w.field(v) {
		w.b = append(w.b, 1)
	}
}

func (w *fieldWriter) end() {
	w.b, w.skipped = append(w.b, 0), 0
}

// Encode returns the record's encoding.
func (r Record) Encode() Encoded {
	w := fieldWriter{b: make([]byte, 0, 64+len(r.NickName)+48*len(r.Links))}
	w.b = append(w.b, 0xff, 0x82) // a value of type 65
	w.text(string(r.Name[:]))
	w.text(r.NickName)
	w.uint(r.UID)
	w.uint(r.Version)
	w.uint(uint64(r.ShortID))
	w.bool(r.HasShortID)
	w.end()
	e := Encoded{head: appendGobText(nil, w.b)}

	w.b = append(w.b[:0], 0xff, 0x86, 0) // a value of type 67
	w.b = appendGobUint(w.b, uint64(len(r.Links)))
	for _, l := range r.Links {
		w.text(string(l.Name[:]))
		w.text(l.Addr)
		w.bool(l.Outbound)
		w.bool(l.Established)
		w.end()
	}
	e.links = appendGobText(nil, w.b)
	return e
}

// AppendUpdate appends a topology update with the given records. Without records it appends nothing, which is a valid
// update.
func AppendUpdate(dst []byte, records []Encoded) []byte {
	size := len(peerType) + len(linksType)
	for _, r := range records {
		size += r.Size()
	}
	dst = slices.Grow(dst, size)
	for i, r := range records {
		if i == 0 {
			dst = append(dst, peerType...)
		}
		dst = append(dst, r.head...)
		if i == 0 {
			dst = append(dst, linksType...)
		}
		dst = append(dst, r.links...)
	}
	return dst
}

// Bounds on a topology update.
const (
	maxUpdateRecords = 8192
	maxRecordBytes   = 1 << 20
	maxLinkAddr      = 128
)

// Head is the part of a record that tells whether it is newer.
type Head struct {
	Name       Name
	UID        uint64
	Version    uint64
	ShortID    uint16
	HasShortID bool

	nick, links []byte
	linksType   int64
}

// Update is a topology update whose records are decoded only as far as needed to see which are newer: most are not.
// It aliases the data it was parsed from.
type Update struct {
	Heads []Head

	types gobReader
	plans map[int64][]recordField
}

// recordField identifies a struct field in the stream.
type recordField uint8

const (
	unknownField recordField = iota
	nameField
	nickField
	uidField
	versionField
	shortIDField
	hasShortIDField
	addrField
	outboundField
	establishedField
)

type fieldSpec struct {
	field recordField
	id    int64
}

var (
	peerFields = map[string]fieldSpec{
		"NameByte": {nameField, gobBytes}, "NickName": {nickField, gobString},
		"UID": {uidField, gobUint}, "Version": {versionField, gobUint},
		"ShortID": {shortIDField, gobUint}, "HasShortID": {hasShortIDField, gobBool},
	}
	linkFields = map[string]fieldSpec{
		"NameByte": {nameField, gobBytes}, "RemoteTCPAddr": {addrField, gobString},
		"Outbound": {outboundField, gobBool}, "Established": {establishedField, gobBool},
	}
)

// plan maps the fields of struct type id to known ones by name.
func (u *Update) plan(id int64, known map[string]fieldSpec) ([]recordField, error) {
	if p, ok := u.plans[id]; ok {
		return p, nil
	}
	t := u.types.types[id]
	if t == nil || t.kind != gobStruct {
		return nil, fmt.Errorf("topology: type %d is not a struct", id)
	}
	p := make([]recordField, len(t.fields))
	for i, f := range t.fields {
		spec, ok := known[f.name]
		if !ok {
			continue
		}
		if spec.id != f.id {
			return nil, fmt.Errorf("topology: field %s is of type %d; want %d", f.name, f.id, spec.id)
		}
		p[i] = spec.field
	}
	if u.plans == nil {
		u.plans = make(map[int64][]recordField)
	}
	u.plans[id] = p
	return p, nil
}

// ParseUpdate parses a topology update. Empty data are an update without records.
func ParseUpdate(data []byte) (*Update, error) {
	u := &Update{types: gobReader{rest: data}}
	for {
		id, c, err := u.types.next()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return nil, fmt.Errorf("topology: %w", err)
		}
		h, err := u.head(id, c)
		if err != nil {
			return nil, err
		}
		var links gobCursor
		if h.linksType, links, err = u.types.next(); err != nil {
			return nil, fmt.Errorf("topology: connections of %s: %w", h.Name, err)
		}
		h.links = links.b
		if len(u.Heads) == maxUpdateRecords || len(h.links)+len(h.nick) > maxRecordBytes || len(h.nick) > maxNick {
			return nil, fmt.Errorf("topology: record of %s, number %d, is over the bounds", h.Name, len(u.Heads)+1)
		}
		u.Heads = append(u.Heads, h)
	}
}

func (u *Update) head(id int64, c gobCursor) (h Head, err error) {
	plan, err := u.plan(id, peerFields)
	if err != nil {
		return h, err
	}
	t, named := u.types.types[id], false
	fields(&c, func(number uint64) {
		if number > uint64(len(plan)) {
			c.fail(errors.New("gob: field that the type does not have"))
			return
		}
		switch plan[number-1] {
		case nameField:
			h.Name, named = readName(&c), true
		case nickField:
			h.nick = c.bytes()
		case uidField:
			h.UID = c.uint()
		case versionField:
			h.Version = c.uint()
		case shortIDField:
			h.ShortID = readUint16(&c)
		case hasShortIDField:
			h.HasShortID = c.uint() != 0
		default:
			u.types.skip(t.fields[number-1].id, &c, 1)
		}
	})
	switch {
	case c.err != nil:
		return h, fmt.Errorf("topology: %w", c.err)
	case !named:
		return h, errors.New("topology: record without a name")
	case len(c.b) > 0:
		return h, errors.New("topology: bytes after a record")
	}
	return h, nil
}

func readName(c *gobCursor) (n Name) {
	b := c.bytes()
	if c.err == nil && len(b) != len(n) {
		c.fail(fmt.Errorf("name of %d bytes; want %d", len(b), len(n)))
		return n
	}
	copy(n[:], b)
	return n
}

func readUint16(c *gobCursor) uint16 {
	v := c.uint()
	if v > 0xffff {
		c.fail(errGobInt)
	}
	return uint16(v)
}

// Record decodes the record with the given index in Heads. The result does not
// alias the update.
func (u *Update) Record(i int) (Record, error) {
	h := u.Heads[i]
	r := Record{Name: h.Name, NickName: string(h.nick), UID: h.UID, Version: h.Version, ShortID: h.ShortID, HasShortID: h.HasShortID}
	t := u.types.types[h.linksType]
	if t == nil || t.kind != gobSlice {
		return r, fmt.Errorf("topology: connections of %s are not a slice", h.Name)
	}
	plan, err := u.plan(t.elem, linkFields)
	if err != nil {
		return r, err
	}
	c := gobCursor{b: h.links}
	var addrs []byte
	var ends []int
	for i, n := 0, c.count(); i < n && c.err == nil; i++ {
		link, addr := u.link(&c, plan, u.types.types[t.elem])
		r.Links = append(r.Links, link)
		addrs = append(addrs, addr...)
		ends = append(ends, len(addrs))
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = errors.New("gob: bytes after the value")
	}
	if c.err != nil {
		return r, fmt.Errorf("topology: connections of %s: %w", h.Name, c.err)
	}
	// All addresses share one string, because a mesh has very many of them.
	text, start := string(addrs), 0
	for i, end := range ends {
		r.Links[i].Addr, start = text[start:end], end
	}
	return r, nil
}

func (u *Update) link(c *gobCursor, plan []recordField, t *gobType) (l Link, addr []byte) {
	named := false
	fields(c, func(number uint64) {
		if number > uint64(len(plan)) {
			c.fail(errors.New("gob: field that the type does not have"))
			return
		}
		switch plan[number-1] {
		case nameField:
			l.Name, named = readName(c), true
		case addrField:
			addr = c.bytes()
			if len(addr) > maxLinkAddr {
				c.fail(fmt.Errorf("address of %d bytes", len(addr)))
				return
			}
		case outboundField:
			l.Outbound = c.uint() != 0
		case establishedField:
			l.Established = c.uint() != 0
		default:
			u.types.skip(t.fields[number-1].id, c, 1)
		}
	})
	if c.err == nil && !named {
		c.fail(errors.New("connection without a name"))
	}
	return l, addr
}
