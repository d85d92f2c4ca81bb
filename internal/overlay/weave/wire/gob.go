package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// Built-in gob type numbers. Types defined in a stream start at gobUser.
const (
	gobBool    = 1
	gobInt     = 2
	gobUint    = 3
	gobFloat   = 4
	gobBytes   = 5
	gobString  = 6
	gobComplex = 7
	gobUser    = 64
)

// Bounds on the types that a stream may define. The protocol needs three types with ten fields in all.
const (
	maxGobTypes  = 64
	maxGobFields = 64
	maxGobDepth  = 16
)

var (
	errGobShort = errors.New("gob: truncated")
	errGobInt   = errors.New("gob: malformed integer")
)

// gobCursor reads gob primitives. After the first error every read returns a zero value, so that callers check err
// once.
type gobCursor struct {
	b   []byte
	err error
}

func (c *gobCursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *gobCursor) uint() uint64 {
	if len(c.b) == 0 {
		c.fail(errGobShort)
		return 0
	}
	first := c.b[0]
	if first < 0x80 {
		c.b = c.b[1:]
		return uint64(first)
	}
	n := -int(int8(first))
	if n > 8 {
		c.fail(errGobInt)
		return 0
	}
	if len(c.b) < 1+n {
		c.fail(errGobShort)
		return 0
	}
	var v uint64
	for _, x := range c.b[1 : 1+n] {
		v = v<<8 | uint64(x)
	}
	c.b = c.b[1+n:]
	return v
}

func (c *gobCursor) int() int64 {
	u := c.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// count reads a number of elements. Each takes at least one byte, so it cannot exceed the remaining bytes.
func (c *gobCursor) count() int {
	n := c.uint()
	if n > uint64(len(c.b)) {
		c.fail(errGobShort)
		return 0
	}
	return int(n)
}

// bytes reads a length and that many bytes, which alias the stream.
func (c *gobCursor) bytes() []byte {
	n := c.count()
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

type gobKind uint8

const (
	gobStruct gobKind = iota + 1
	gobSlice
	gobMap
	gobArray
	gobOpaque // encoded by the type itself, as a byte string
)

// gobKinds is indexed by the number of the field that is set in a definition.
var gobKinds = [...]gobKind{0, gobArray, gobSlice, gobStruct, gobMap, gobOpaque, gobOpaque, gobOpaque}

// gobType is a type defined in the stream.
type gobType struct {
	kind      gobKind
	fields    []gobField // of a struct
	key, elem int64      // of a map; of a slice, array or map
	length    int64      // of an array
}

type gobField struct {
	name string
	id   int64
}

// gobReader reads the values of one stream, and the type definitions between them.
type gobReader struct {
	rest  []byte
	types map[int64]*gobType
}

// next returns the type and the encoding of the next value. Unless the type is a struct, the zero byte before the
// value has been read. At the end of the stream the error is io.EOF.
func (r *gobReader) next() (int64, gobCursor, error) {
	for len(r.rest) > 0 {
		c := gobCursor{b: r.rest}
		body := gobCursor{b: c.bytes()}
		if c.err != nil {
			return 0, gobCursor{}, c.err
		}
		r.rest = c.b
		id := body.int()
		switch {
		case body.err != nil:
			return 0, gobCursor{}, body.err
		case id < 0:
			if err := r.define(-id, body); err != nil {
				return 0, gobCursor{}, err
			}
		default:
			if t := r.types[id]; t == nil || t.kind != gobStruct {
				if body.uint() != 0 || body.err != nil {
					return 0, gobCursor{}, errors.New("gob: value without its leading zero")
				}
			}
			return id, body, nil
		}
	}
	return 0, gobCursor{}, io.EOF
}

// define reads the definition of type id: a struct with one field for each kind of type, exactly one of which is set.
func (r *gobReader) define(id int64, c gobCursor) error {
	if id < gobUser || r.types[id] != nil || len(r.types) >= maxGobTypes {
		return fmt.Errorf("gob: unwelcome definition of type %d", id)
	}
	t := &gobType{}
	fields(&c, func(kind uint64) {
		if kind >= uint64(len(gobKinds)) || t.kind != 0 {
			c.fail(errors.New("gob: type of no or of two kinds"))
			return
		}
		t.kind = gobKinds[kind]
		fields(&c, func(field uint64) {
			defineField(t, kind, field, &c)
		})
	})
	if c.err == nil && (len(c.b) > 0 || t.kind == 0) {
		c.err = errors.New("gob: malformed type definition")
	}
	if c.err != nil {
		return c.err
	}
	if r.types == nil {
		r.types = make(map[int64]*gobType)
	}
	r.types[id] = t
	return nil
}

// fields calls visit with the number of each field present in a struct; visit must read the field's value from c.
func fields(c *gobCursor, visit func(number uint64)) {
	var number uint64
	for {
		delta := c.uint()
		if delta == 0 || c.err != nil {
			return
		}
		if number += delta; number < delta || number > maxGobFields {
			c.fail(errors.New("gob: field number out of range"))
			return
		}
		visit(number)
	}
}

// defineField reads one field of a type description. All descriptions begin with the type's name and number, which
// are not needed.
func defineField(t *gobType, kind, field uint64, c *gobCursor) {
	switch {
	case field == 1:
		fields(c, func(number uint64) {
			switch number {
			case 1:
				c.bytes()
			case 2:
				c.int()
			default:
				c.fail(errors.New("gob: malformed type name"))
			}
		})
	case kind == 3 && field == 2: // struct: the fields
		n := c.count()
		if n > maxGobFields {
			c.fail(errors.New("gob: struct with too many fields"))
		}
		for range n {
			t.fields = append(t.fields, readField(c))
		}
	case kind == 4 && field == 2: // map: the key
		t.key = c.int()
	case kind == 4 && field == 3, (kind == 1 || kind == 2) && field == 2: // the element
		t.elem = c.int()
	case kind == 1 && field == 3: // array: the length
		t.length = c.int()
	default:
		c.fail(errors.New("gob: malformed type definition"))
	}
}

func readField(c *gobCursor) (f gobField) {
	fields(c, func(number uint64) {
		switch number {
		case 1:
			f.name = string(c.bytes())
		case 2:
			f.id = c.int()
		default:
			c.fail(errors.New("gob: malformed field definition"))
		}
	})
	return f
}

// skip skips a value of type id. Every value takes at least one byte, so the work is bounded by the length of the
// stream.
func (r *gobReader) skip(id int64, c *gobCursor, depth int) {
	if depth > maxGobDepth {
		c.fail(errors.New("gob: value nested too deeply"))
	}
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		c.uint()
		return
	case gobBytes, gobString:
		c.bytes()
		return
	case gobComplex:
		c.uint()
		c.uint()
		return
	}
	t := r.types[id]
	if t == nil {
		c.fail(fmt.Errorf("gob: type %d is not defined", id))
		return
	}
	switch t.kind {
	case gobStruct:
		r.skipStruct(t, c, depth)
	case gobSlice, gobArray, gobMap:
		n := c.count()
		for i := 0; i < n && c.err == nil; i++ {
			if t.kind == gobMap {
				r.skip(t.key, c, depth+1)
			}
			r.skip(t.elem, c, depth+1)
		}
	case gobOpaque:
		c.bytes()
	}
}

func (r *gobReader) skipStruct(t *gobType, c *gobCursor, depth int) {
	fields(c, func(number uint64) {
		if number > uint64(len(t.fields)) {
			c.fail(errors.New("gob: field that the type does not have"))
			return
		}
		r.skip(t.fields[number-1].id, c, depth+1)
	})
}

// scalar reads the next value of the stream, which must be of type id: bytes or string.
func (r *gobReader) scalar(id int64) ([]byte, error) {
	got, c, err := r.next()
	if errors.Is(err, io.EOF) {
		err = errGobShort
	}
	if err != nil {
		return nil, err
	}
	if got != id {
		return nil, fmt.Errorf("gob: value of type %d where type %d belongs", got, id)
	}
	b := c.bytes()
	if c.err == nil && len(c.b) > 0 {
		c.err = errors.New("gob: bytes after the value")
	}
	return b, c.err
}

func appendGobUint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	n := (bits.Len64(v) + 7) / 8
	dst = append(dst, byte(-n))
	return append(dst, b[8-n:]...)
}

func gobUintSize(v uint64) int {
	if v < 0x80 {
		return 1
	}
	return 1 + (bits.Len64(v)+7)/8
}

func appendGobText[T string | []byte](dst []byte, text T) []byte {
	return append(appendGobUint(dst, uint64(len(text))), text...)
}

// appendGobScalar appends a complete gob message with a string or byte string.
func appendGobScalar[T string | []byte](dst []byte, id int64, text T) []byte {
	dst = appendGobUint(dst, uint64(2+gobUintSize(uint64(len(text)))+len(text)))
	dst = append(dst, byte(id)<<1, 0)
	return appendGobText(dst, text)
}
