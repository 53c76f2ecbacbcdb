// Package arena is the shared memory through which large values pass between the processes of one application on one
// node. The node owns an arena, which has two parts: Memory is the memory itself, a memfd, and Table is the account of
// the processes that may write or read each part of it. Workers have the descriptor of the memory, and never the
// account. The package needs Linux.
//
// Example: a worker A sends an argument of 1 MB to a replica in a worker B.
//
//  1. A holds a lease: extents of the arena that only A may write into. Stock is the list of them. A asks the node for
//     more in the background (a LEASE frame), so that sending a value never waits for the node. The node has filled a leased
//     extent with memory before (Memory.Fill), so that a write into it cannot fail for lack of memory, which would be a SIGBUS.
//  2. A copies the argument into an extent, once, and sends a Ref in the frame of the call instead of the bytes. If the
//     stock has no extent that is large enough, A sends the bytes in the frame: no call ever waits for shared memory.
//  3. The node reads the Ref. It publishes the extent: it is a buffer now, which no process may write. The node gives B a
//     reference to the buffer (Table.Receive) and sends the Ref on unchanged.
//  4. B reads the argument through a mapping without write permission (View). When its last view of the buffer has ended,
//     B gives the reference back (a RELEASE frame, for several buffers at once). The extent is free again when no process
//     has a reference to the buffer.
//  5. If B is killed, the node takes its references back when the process has ended. The end of the connection is not
//     enough: until the process has ended it may still write into its lease and read its views.
//
// The node checks every request of a worker against the account. So a worker that has an error or lies cannot
// free or publish memory that is not its own. The contents are not protected in this way: all processes of an
// application run as the same user, and each could write to the memory by other means. The mapping without write
// permission stops accidents, and applications are separate because each has an arena of its own. If a worker
// misbehaves, a published buffer may change while it is read; decoders must be safe with that.
//
// An arena lives as long as its node. A worker that outlives its node keeps the old memory mapped while it has views of
// it, and gets the arena of the next node over its new connection. A release for another arena than the present one has
// no effect.
package arena

// Offer describes an arena for another process, which gets the descriptor beside it.
type Offer struct {
	Arena uint64 // identifies the arena; a node that is started again makes an arena with another number
	Size  uint64
}

// Ref stands in a frame for the bytes of a large buffer: Length bytes at Offset, written under the lease with this
// Generation. The four fields identify one buffer for all time: after the buffer is freed, its Ref is refused, even if
// another buffer is at the same offset.
type Ref struct {
	Arena      uint64
	Generation uint64
	Offset     uint64
	Length     uint64
}

// Extent is a part of the arena, in bytes.
type Extent struct {
	Offset uint64
	Length uint64
}

func (e Extent) end() uint64 { return e.Offset + e.Length }

// Grant is an extent of a lease. Its holder may write into it and publish parts of it.
type Grant struct {
	Extent
	Generation uint64
}
