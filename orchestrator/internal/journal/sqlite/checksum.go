package sqlite

import (
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is the table of CRC-32C, which processors compute themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC-32C of a turn's data and position, so it finds data that was changed, and data of another
// turn.
func checksum(position int64, data []byte) int64 {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(position))
	return int64(crc32.Update(crc32.Checksum(data, castagnoli), castagnoli, at[:]))
}
