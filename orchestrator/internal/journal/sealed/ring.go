package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// MaxKeys is the maximum number of keys in a file.
const MaxKeys = 100

// keyID identifies a key in what it has sealed.
type keyID uint32

// String returns the id as the file of keys has it.
func (id keyID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

func parseKeyID(text string) (keyID, error) {
	id, err := strconv.ParseUint(text, 16, 32)
	if err != nil || keyID(id).String() != text {
		return 0, fmt.Errorf("the id of a key is %q: want eight hexadecimal digits", text)
	}
	return keyID(id), nil
}

// ringFile is a file of keys.
type ringFile struct {
	Primary string    `json:"primary"`
	Index   []byte    `json:"index"`
	Keys    []keyFile `json:"keys"`
}

type keyFile struct {
	ID         string    `json:"id"`
	CreateTime time.Time `json:"createTime,omitzero"`
	Key        []byte    `json:"key"`
}

// ring is a set of keys. It never changes.
type ring struct {
	primary keyID
	keys    map[keyID]*aead
	index   []byte
}

// parseRing reads a file of keys. Its errors never repeat a key.
func parseRing(data []byte) (*ring, error) {
	file, err := parseFile(data)
	if err != nil {
		return nil, err
	}
	r := &ring{keys: make(map[keyID]*aead, len(file.Keys)), index: file.Index}
	for _, key := range file.Keys {
		id, err := parseKeyID(key.ID)
		if err != nil {
			return nil, err
		}
		if r.keys[id] != nil {
			return nil, fmt.Errorf("there are two keys with the id %s", id)
		}
		if r.keys[id], err = newAEAD(key.Key); err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
	}
	if r.primary, err = parseKeyID(file.Primary); err != nil {
		return nil, fmt.Errorf("primary: %w", err)
	}
	if r.keys[r.primary] == nil {
		return nil, fmt.Errorf("the primary key %s isn't among the keys", r.primary)
	}
	return r, nil
}

func parseFile(data []byte) (file ringFile, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return file, errors.New("it isn't JSON of the right form") // err may repeat a part of a key
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return file, errors.New("something follows the keys")
	}
	if len(file.Keys) > MaxKeys {
		return file, fmt.Errorf("it has %d keys: the limit is %d", len(file.Keys), MaxKeys)
	}
	if len(file.Index) != keySize {
		return file, fmt.Errorf("the key of the index has %d bytes: want %d", len(file.Index), keySize)
	}
	return file, nil
}

// newFile returns a file with one key.
func newFile(now time.Time) ringFile {
	file := ringFile{Index: randomKey()}
	file.rotate(now)
	return file
}

// rotate adds a key and makes it the primary one.
func (f *ringFile) rotate(now time.Time) keyID {
	id := randomKeyID()
	for slices.ContainsFunc(f.Keys, func(key keyFile) bool { return key.ID == id.String() }) {
		id = randomKeyID()
	}
	f.Primary = id.String()
	f.Keys = append(f.Keys, keyFile{ID: f.Primary, CreateTime: now.UTC().Truncate(time.Second), Key: randomKey()})
	return id
}

func (f *ringFile) marshal() ([]byte, error) {
	data, err := json.MarshalIndent(f, "", "  ")
	return append(data, '\n'), err
}

func randomKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return key
}

func randomKeyID() keyID {
	var id [4]byte
	_, _ = rand.Read(id[:]) // it never fails
	return keyID(uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3]))
}

// mac authenticates parts of a kind with the key of the index. It tells apart where one part ends and the next begins.
func (r *ring) mac(kind string, parts ...string) [sha256.Size]byte {
	hash := hmac.New(sha256.New, r.index)
	_, _ = hash.Write(place(kind, parts...)) // a hash never fails
	var sum [sha256.Size]byte
	hash.Sum(sum[:0])
	return sum
}

// digest returns what a store keeps instead of the value of a label.
func (r *ring) digest(label, value string) string {
	sum := r.mac("label", label, value)
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
