package sqlite

import "hash/crc32"

// castagnoli is the table of CRC-32C, which processors compute themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC-32C of a turn's data and position, so it finds data that was changed, and data of another
// turn.
func checksum(position int64, data []byte) int64 {
	crc := ^crc32.Checksum(data, castagnoli)
	for shift := 56; shift >= 0; shift -= 8 { // as crc32.Update, which needs the bytes on the heap
		crc = castagnoli[byte(crc)^byte(position>>shift)] ^ crc>>8
	}
	return int64(^crc)
}
