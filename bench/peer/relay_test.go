package peer

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
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

// Items of a stream have the id of their call, and so has its end.
func TestRelayItems(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "relay"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() { done <- Relay(l) }()
	var conns [2]net.Conn // the callee's first
	for i := range conns {
		if conns[i], err = net.Dial("unix", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	callee, caller := conns[0], conns[1]
	if _, err := caller.Write(frame(7, "count")); err != nil {
		t.Fatal(err)
	}
	call := make([]byte, len(frame(0, "count")))
	if _, err := io.ReadFull(callee, call); err != nil {
		t.Fatal(err)
	}
	id := binary.LittleEndian.Uint64(call[8:])
	var want []byte
	for _, kind := range []uint32{item, item, 2} {
		f := frame(id, "x")
		binary.LittleEndian.PutUint32(f[4:], kind)
		if _, err := callee.Write(f); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint64(f[8:], 7)
		want = append(want, f...)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(caller, got); err != nil || string(got) != string(want) {
		t.Errorf("the caller has %q, %v, want %q", got, err, want)
	}
	caller.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
