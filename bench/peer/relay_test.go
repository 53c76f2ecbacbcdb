package peer

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

func frame(id uint64, body string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, 1)
	return append(binary.LittleEndian.AppendUint64(b, id), body...)
}

// Frames arrive whole and renamed, however they were cut, and the relay ends with its source.
func TestRelay(t *testing.T) {
	t.Parallel()
	from, source := net.Pipe()
	sink, to := net.Pipe()
	go func() {
		relay(from, to, func(kind uint32, id uint64) uint64 { return id + uint64(kind)*100 })
		to.Close()
	}()
	go func() {
		in := append(append(frame(1, "one"), frame(2, "")...), frame(3, "three")...)
		for _, cut := range [][]byte{in[:5], in[5:18], in[18:40], in[40:]} {
			source.Write(cut)
		}
		source.Close()
	}()
	got, err := io.ReadAll(sink)
	if err != nil {
		t.Fatal(err)
	}
	want := append(append(frame(101, "one"), frame(102, "")...), frame(103, "three")...)
	if string(got) != string(want) {
		t.Errorf("relayed %q, want %q", got, want)
	}
}

// A frame that does not fit ends the relay, which would otherwise read nothing for ever.
func TestRelayTooLarge(t *testing.T) {
	t.Parallel()
	head := binary.LittleEndian.AppendUint32(nil, 1<<20)
	in := io.MultiReader(strings.NewReader(string(head)), endless{})
	relay(in, io.Discard, func(uint32, uint64) uint64 { t.Error("a frame was complete"); return 0 })
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
