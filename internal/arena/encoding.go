package arena

import (
	"encoding/binary"
	"fmt"
)

// The lengths of encoded values in bytes (docs/wire.md). Numbers are little endian.
const (
	RefLen   = 32 // arena, generation, offset, length
	GrantLen = 32 // the same of an extent
)

// Encode returns the encoded form of r.
func (r Ref) Encode() (b [RefLen]byte) {
	for i, v := range [...]uint64{r.Arena, r.Generation, r.Offset, r.Length} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return b
}

// DecodeRef decodes a reference. Table checks its content.
func DecodeRef(b [RefLen]byte) Ref {
	u := binary.LittleEndian.Uint64
	return Ref{u(b[:]), u(b[8:]), u(b[16:]), u(b[24:])}
}

// AppendRefs appends encoded references to the body of a frame.
func AppendRefs(b []byte, refs ...Ref) []byte {
	for _, r := range refs {
		e := r.Encode()
		b = append(b, e[:]...)
	}
	return b
}

// AppendGrants appends encoded extents of an arena to the body of a frame.
func AppendGrants(b []byte, arena uint64, grants ...Grant) []byte {
	for _, g := range grants {
		b = AppendRefs(b, Ref{arena, g.Generation, g.Offset, g.Length})
	}
	return b
}

// EachRef calls f for every reference in the body of a frame.
func EachRef(b []byte, f func(Ref) error) error {
	if len(b)%RefLen != 0 {
		return fmt.Errorf("arena: %d bytes of references", len(b))
	}
	for ; len(b) > 0; b = b[RefLen:] {
		if err := f(DecodeRef([RefLen]byte(b))); err != nil {
			return err
		}
	}
	return nil
}

// EachGrant calls f for every extent of one arena in the body of a frame. Extents of other arenas are skipped.
func EachGrant(b []byte, arena uint64, f func(Grant) error) error {
	return EachRef(b, func(r Ref) error {
		if r.Arena != arena {
			return nil
		}
		return f(Grant{Extent{r.Offset, r.Length}, r.Generation})
	})
}
