package postgres

import (
	"encoding/binary"
)

// The object ids of types of PostgreSQL.
const (
	boolType      = 16
	byteaType     = 17
	int8Type      = 20
	int4Type      = 23
	textType      = 25
	boolArrayType = 1000
	byteaArray    = 1001
	int4ArrayType = 1007
	textArrayType = 1009
	int8ArrayType = 1016
)

// array encodes the elements of an array in the binary format, so that a column of a group's rows is one argument. It
// is used again for the next group.
type array struct {
	buf  []byte
	n    uint32
	null uint32 // 1 if an element is NULL
}

const arrayHeader = 20

func (a *array) reset() {
	if cap(a.buf) > maxKeptBuffer {
		a.buf = nil
	}
	a.buf = append(a.buf[:0], make([]byte, arrayHeader)...)
	a.n, a.null = 0, 0
}

// maxKeptBuffer is the maximum size of a buffer that is kept for the next group.
const maxKeptBuffer = 1 << 20

func (a *array) int8(v int64) {
	a.n++
	a.buf = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(a.buf, 8), uint64(v))
}

// time adds a time, or NULL if there is none.
func (a *array) time(at *int64) {
	if at == nil {
		a.addNull()
		return
	}
	a.int8(*at)
}

func (a *array) addNull() {
	a.n, a.null = a.n+1, 1
	a.buf = binary.BigEndian.AppendUint32(a.buf, 0xffffffff)
}

func (a *array) int4(v int32) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a.buf, 4), uint32(v))
}

func (a *array) bool(v bool) {
	a.n++
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, 1), 0)
	if v {
		a.buf[len(a.buf)-1]++
	}
}

func (a *array) bytes(v []byte) {
	a.n++
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(v))), v...)
}

func (a *array) text(v string) {
	v = encoded(v)
	a.n++
	a.buf = append(binary.BigEndian.AppendUint32(a.buf, uint32(len(v))), v...)
}

// optional adds a text, or NULL if it is empty.
func (a *array) optional(v string) {
	if v == "" {
		a.addNull()
		return
	}
	a.text(v)
}

// value returns the array of elements of a type.
func (a *array) value(element uint32) []byte {
	if a.n == 0 {
		return binary.BigEndian.AppendUint32(append(a.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0), element)
	}
	put := binary.BigEndian.PutUint32
	put(a.buf, 1)
	put(a.buf[4:], a.null)
	put(a.buf[8:], element)
	put(a.buf[12:], a.n)
	put(a.buf[16:], 1)
	return a.buf
}

func int8Value(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
func int4Value(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
