// Package arena is the shared memory through which large buffers pass between the processes of one application on one
// node. The node owns an arena: one memfd (Memory) and the account of who may do what with which part of it (Table).
// Workers hold the descriptor, never the account. Linux only.
//
// The way of a buffer:
//
//  1. A worker holds a lease, a stock of extents that it may write into (Stock); it asks for more in the background
//     (a LEASE frame), so that sending a value never waits for the node. The node makes sure that a granted
//     extent has memory (Memory.Fill): writing into it cannot fail later, when it would be a SIGBUS.
//  2. It copies the buffer in, once, and sends a Ref in the place of the bytes. With nothing fitting in stock it sends
//     the bytes as before: inline is always possible, and no call ever waits for room.
//  3. The node publishes the extent as it reads the Ref, and gives the receiver a reference (Table.Publish, Share)
//     before it forwards the Ref. The Ref itself is forwarded unread: the generation in it came with the lease.
//  4. The receiver reads through a mapping without write permission (View) and reports (a RELEASE frame, in batches) when its
//     last view has died. The extent is free again when nobody is left who refers to it.
//  5. The node takes back what a process held when that process is seen gone, not when its connection ends: until then
//     it may still write into its lease and read its views.
//
// What a peer says is checked against the account, so that a lying or confused one is refused and cannot free, publish
// or keep what is not its own. The contents are another matter: all processes of an application can write the memory
// that they map, as they run as the same user and could do so by other means. The separation is between applications,
// which have an arena each, and against accidents, which a mapping without write permission stops at the instruction.
// A published buffer may therefore change under a reader if its producer misbehaves: decoders must be safe with that.
//
// An arena lives as long as its node. Workers that outlive a node keep the old memory mapped while they have views of it,
// and get the new node's arena over their new connection; releases for another arena than the present one
// mean nothing and are dropped.
package arena

// Offer tells a process of an arena; the descriptor comes beside it.
type Offer struct {
	Arena uint64 // identifies the arena; a node that starts anew takes another
	Size  uint64
}

// Ref stands in a value for the bytes of a large buffer: Length bytes at Offset, written under the lease Generation. The
// four together name one buffer for ever; a Ref of something that was freed is refused, whatever is there by then.
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

// Grant is an extent that a worker may write into and publish from.
type Grant struct {
	Extent
	Generation uint64
}
