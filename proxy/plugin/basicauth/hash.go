package basicauth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// hash checks a password. How long that takes depends on the kind and cost alone, not on the password and not on whether it
// is right.
type hash interface {
	matches(password []byte) bool
	// cost tells hashes apart that take different times.
	cost() string
	// dummy is a hash of the same cost that no password matches.
	dummy() hash
}

// Bounds on what a configuration may have a check take.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 16
	maxThreads = 16
	maxBcrypt  = 14
	minSalt    = 8
	minSum     = 16
	maxSum     = 64
	bcryptMost = 72 // bytes of a password that bcrypt looks at

	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// argon is argon2id (RFC 9106).
type argon struct {
	time, memory uint32
	threads      uint8
	salt, sum    []byte
	never        bool
}

func (a *argon) matches(password []byte) bool {
	got := argon2.IDKey(password, a.salt, a.time, a.memory, a.threads, uint32(len(a.sum))) //nolint:gosec // at most maxSum
	return subtle.ConstantTimeCompare(got, a.sum) == 1 && !a.never
}

func (a *argon) cost() string {
	return fmt.Sprintf("argon2id %d %d %d %d", a.memory, a.time, a.threads, len(a.sum))
}

func (a *argon) dummy() hash {
	return &argon{a.time, a.memory, a.threads, make([]byte, len(a.salt)), make([]byte, len(a.sum)), true}
}

// crypted is bcrypt.
type crypted struct {
	text  []byte
	rank  int
	never bool
}

func (b *crypted) matches(password []byte) bool {
	long := len(password) > bcryptMost // what is behind would not be looked at
	if long {
		password = password[:bcryptMost]
	}
	return bcrypt.CompareHashAndPassword(b.text, password) == nil && !long && !b.never
}

func (b *crypted) cost() string { return "bcrypt " + strconv.Itoa(b.rank) }

func (b *crypted) dummy() hash { return &crypted{b.text, b.rank, true} }

// readHash reads a hash as a configuration has it.
func readHash(text string) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		return readArgon(text)
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		rank, err := bcrypt.Cost([]byte(text))
		if err != nil || len(text) != 60 || strings.ContainsFunc(text[7:], func(r rune) bool { return !strings.ContainsRune(bcryptAlphabet, r) }) {
			return nil, errors.New("a bcrypt hash that does not parse")
		}
		if rank > maxBcrypt {
			return nil, fmt.Errorf("a bcrypt hash of cost %d: at most %d is taken, as each call would take seconds", rank, maxBcrypt)
		}
		return &crypted{text: []byte(text), rank: rank}, nil
	case strings.HasPrefix(text, "$argon2"):
		return nil, errors.New("wanted argon2id, found another argon2")
	}
	return nil, errors.New("wanted an argon2id hash in PHC form, or bcrypt")
}

var errPHC = errors.New("wanted $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH with salt and hash in base64 without padding")

// readArgon reads the form of https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md.
func readArgon(text string) (hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errPHC
	}
	a := &argon{}
	seen := map[string]uint64{}
	for param := range strings.SplitSeq(parts[3], ",") {
		name, value, _ := strings.Cut(param, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if _, twice := seen[name]; err != nil || twice {
			return nil, errPHC
		}
		seen[name] = n
	}
	m, t, p := seen["m"], seen["t"], seen["p"]
	if len(seen) != 3 || m == 0 || t == 0 || p == 0 {
		return nil, errPHC
	}
	if m > maxMemory || t > maxTime || p > maxThreads {
		return nil, fmt.Errorf("argon2id of m=%d,t=%d,p=%d: at most m=%d,t=%d,p=%d is taken, as each call needs that", m, t, p, maxMemory, maxTime, maxThreads)
	}
	if m < 8*p {
		return nil, fmt.Errorf("argon2id of m=%d,p=%d: m is at least 8 times p", m, p)
	}
	a.memory, a.time, a.threads = uint32(m), uint32(t), uint8(p)
	var err, err2 error
	a.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	a.sum, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err != nil || err2 != nil || len(a.salt) < minSalt || len(a.sum) < minSum || len(a.sum) > maxSum {
		return nil, errPHC
	}
	return a, nil
}
