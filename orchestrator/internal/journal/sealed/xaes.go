package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

const (
	// keySize is the size of a key in bytes, and nonceSize that of a nonce.
	keySize   = 32
	nonceSize = 24

	// tagSize is how many bytes longer the ciphertext is.
	tagSize = 16
)

// errSeal means that a ciphertext isn't what was sealed.
var errSeal = errors.New("it isn't what was sealed")

// aead is XAES-256-GCM, as https://c2sp.org/XAES-256-GCM specifies it: AES-256-GCM with a key that is derived for each
// nonce. Its nonces are so long that any number of them may be random, while one key of AES-GCM takes at most 2^32. All
// methods may be called concurrently.
type aead struct {
	block  cipher.Block
	subkey [aes.BlockSize]byte // K1 of CMAC
}

func newAEAD(key []byte) (*aead, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("a key has %d bytes: want %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a := &aead{block: block}
	block.Encrypt(a.subkey[:], a.subkey[:])
	carry := byte(0)
	for i := len(a.subkey) - 1; i >= 0; i-- {
		a.subkey[i], carry = a.subkey[i]<<1|carry, a.subkey[i]>>7
	}
	a.subkey[len(a.subkey)-1] ^= carry * 0x87
	return a, nil
}

// derive returns the cipher of a nonce.
func (a *aead) derive(nonce []byte) (cipher.AEAD, error) {
	var key [keySize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:nonceSize-12])
		for j := range half {
			half[j] ^= a.subkey[j]
		}
		a.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends the ciphertext of data to to.
func (a *aead) seal(to, nonce, data, additional []byte) ([]byte, error) {
	derived, err := a.derive(nonce)
	if err != nil {
		return nil, err
	}
	return derived.Seal(to, nonce[nonceSize-12:], data, additional), nil
}

// open returns what was sealed.
func (a *aead) open(nonce, sealed, additional []byte) ([]byte, error) {
	derived, err := a.derive(nonce)
	if err != nil {
		return nil, err
	}
	opened, err := derived.Open(nil, nonce[nonceSize-12:], sealed, additional)
	if err != nil {
		return nil, errSeal // the cipher says no more
	}
	return opened, nil
}
