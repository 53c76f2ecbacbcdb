package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The reader of a bbolt file reads all records before bbolt opens the file, and checks each pointer that it follows. bbolt itself maps the file into memory
// and follows its pointers: a page with a wrong byte ends the process or loops, and a file that was cut short is a SIGBUS. The reader compares each
// page with the form that bbolt writes, so that bbolt meets whole trees only.
//
// A file is pages of one size. Pages 0 and 1 are meta pages, and the one with the higher transaction is valid. It names the root of a B+ tree whose
// leaves have the buckets; a bucket is a tree of its own or, if small, a page inside the value of its leaf. For example, a new store has the root in
// page 5, whose two elements are the bucket "helve" (a page inside the value) and the bucket "records" (a page inside, or the root of its tree).
//
// The layout is that of bbolt's types Page, Meta, InBucket, branchPageElement and leafPageElement on little-endian processors.
const (
	pageHeader    = 16 // id 8, flags 2, count 2, overflow 4
	elementSize   = 16 // leaf: flags 4, pos 4, ksize 4, vsize 4; branch: pos 4, ksize 4, pgid 8
	bucketHeader  = 16 // root 8, sequence 8
	metaSize      = 64 // magic 4, version 4, page size 4, flags 4, root 8, sequence 8, freelist 8, pages 8, transaction 8, checksum 8
	metaSummed    = metaSize - 8
	branchPage    = 0x01
	leafPage      = 0x02
	metaPage      = 0x04
	bucketElement = 0x01
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	noFreelist    = 1<<64 - 1
	maxDepth      = 64 // of a tree; one of four levels has millions of records
)

// meta is a meta page.
type meta struct {
	pageSize    int64
	root        uint64
	freelist    uint64
	pages       uint64 // the number of pages in use: higher ones are free
	transaction uint64
}

// pair is a key with its value.
type pair struct{ key, value []byte }

// reader reads one file.
type reader struct {
	file io.ReaderAt
	size int64
	meta meta
	seen map[uint64]bool // the pages that were read
}

// readBuckets reads all buckets of a file of a size, the pairs of each in the order of their keys, and the number of the last transaction.
func readBuckets(file io.ReaderAt, size int64) (buckets map[string][]pair, transaction uint64, err error) {
	r := &reader{file: file, size: size, seen: map[uint64]bool{}}
	if err := r.readMeta(); err != nil {
		return nil, 0, err
	}
	top, err := r.tree(r.meta.root)
	if err != nil {
		return nil, 0, err
	}
	buckets = make(map[string][]pair, len(top))
	for _, e := range top {
		if e.flags != bucketElement {
			return nil, 0, fmt.Errorf("the element %q at the top is no bucket", e.key)
		}
		pairs, err := r.bucket(e.value)
		if err != nil {
			return nil, 0, fmt.Errorf("bucket %q: %w", e.key, err)
		}
		buckets[string(e.key)] = pairs
	}
	return buckets, r.meta.transaction, nil
}

// readMeta reads both meta pages. Both must be valid: bbolt goes back to the older one if the newer is not, which would lose a transaction that was
// acknowledged. A machine that loses its power leaves no half of a meta page, because the 64 bytes are in one sector.
func (r *reader) readMeta() error {
	first, err := r.metaAt(0)
	if err != nil {
		return fmt.Errorf("meta page 0: %w", err)
	}
	second, err := r.metaAt(first.pageSize)
	if err != nil {
		return fmt.Errorf("meta page 1: %w", err)
	}
	newer, older := first, second
	if second.transaction > first.transaction {
		newer, older = second, first
	}
	switch {
	case newer.transaction != older.transaction+1 || first.transaction%2 != 0:
		return fmt.Errorf("the meta pages are of the transactions %d and %d", first.transaction, second.transaction)
	case first.pageSize != second.pageSize:
		return fmt.Errorf("the meta pages say that pages have %d and %d bytes", first.pageSize, second.pageSize)
	case newer.freelist != noFreelist:
		return fmt.Errorf("it has a list of free pages at %d, which this program does not write", newer.freelist)
	case newer.pages < 4 || newer.pages > uint64(r.size/newer.pageSize):
		return fmt.Errorf("it should have %d pages of %d bytes, and has %d bytes", newer.pages, newer.pageSize, r.size)
	}
	r.meta = newer
	return nil
}

func (r *reader) metaAt(offset int64) (m meta, err error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := r.file.ReadAt(b, offset); err != nil {
		return m, readError(err)
	}
	body := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(body[:metaSummed]) //nolint:errcheck // a hash takes all
	switch {
	case binary.LittleEndian.Uint16(b[8:]) != metaPage:
		return m, fmt.Errorf("its kind is %#x", binary.LittleEndian.Uint16(b[8:]))
	case binary.LittleEndian.Uint32(body) != boltMagic:
		return m, errors.New("it does not begin as a bbolt file does")
	case binary.LittleEndian.Uint64(body[metaSummed:]) != sum.Sum64():
		return m, errors.New("its checksum is wrong")
	case binary.LittleEndian.Uint32(body[4:]) != boltVersion:
		return m, fmt.Errorf("it is of version %d of bbolt's files", binary.LittleEndian.Uint32(body[4:]))
	}
	m = meta{
		pageSize: int64(binary.LittleEndian.Uint32(body[8:])), root: binary.LittleEndian.Uint64(body[16:]), freelist: binary.LittleEndian.Uint64(body[32:]),
		pages: binary.LittleEndian.Uint64(body[40:]), transaction: binary.LittleEndian.Uint64(body[48:]),
	}
	if m.pageSize < 1<<10 || m.pageSize > 1<<16 || m.pageSize&(m.pageSize-1) != 0 {
		return m, fmt.Errorf("it says that pages have %d bytes", m.pageSize)
	}
	return m, nil
}

// element is an element of a leaf.
type element struct {
	flags uint32
	pair
}

// tree gives the elements of the leaves of a tree, in order.
func (r *reader) tree(root uint64) (elements []element, err error) {
	if err := r.walk(root, 0, &elements); err != nil {
		return nil, err
	}
	for i := 1; i < len(elements); i++ {
		if bytes.Compare(elements[i-1].key, elements[i].key) >= 0 {
			return nil, fmt.Errorf("the key %q is not behind %q", elements[i].key, elements[i-1].key)
		}
	}
	return elements, nil
}

// walk appends the elements of the leaves under a page.
func (r *reader) walk(id uint64, depth int, elements *[]element) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d: the tree is over %d levels deep", id, maxDepth)
	}
	body, err := r.page(id)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if binary.LittleEndian.Uint16(body[8:]) == leafPage {
		found, err := leaf(body)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		if depth > 0 && len(found) == 0 { // only a root may be empty
			return fmt.Errorf("page %d: it is empty", id)
		}
		*elements = append(*elements, found...)
		return nil
	}
	count := int(binary.LittleEndian.Uint16(body[10:]))
	if count == 0 {
		return fmt.Errorf("page %d: it is empty", id)
	}
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(body) {
			return fmt.Errorf("page %d: its %d elements do not fit into it", id, count)
		}
		e := body[at:]
		key, ok := part(e, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]))
		if !ok {
			return fmt.Errorf("page %d: the key of element %d is not in the page", id, i)
		}
		first := len(*elements)
		if err := r.walk(binary.LittleEndian.Uint64(e[8:]), depth+1, elements); err != nil {
			return err
		}
		if !bytes.Equal(key, (*elements)[first].key) { // bbolt would put the child at a second place
			return fmt.Errorf("page %d: element %d has the key %q, and its child begins with %q", id, i, key, (*elements)[first].key)
		}
	}
	return nil
}

// page reads a page of a tree, with the pages that it runs over into. Each page has one place in one tree.
func (r *reader) page(id uint64) ([]byte, error) {
	if id < 2 || id >= r.meta.pages {
		return nil, fmt.Errorf("it is not one of the %d pages", r.meta.pages)
	}
	header := make([]byte, pageHeader)
	if _, err := r.file.ReadAt(header, int64(id)*r.meta.pageSize); err != nil {
		return nil, readError(err)
	}
	kind, overflow := binary.LittleEndian.Uint16(header[8:]), uint64(binary.LittleEndian.Uint32(header[12:]))
	switch {
	case binary.LittleEndian.Uint64(header) != id:
		return nil, fmt.Errorf("it says that it is page %d", binary.LittleEndian.Uint64(header))
	case kind != branchPage && kind != leafPage:
		return nil, fmt.Errorf("its kind is %#x", kind)
	case overflow >= r.meta.pages-id:
		return nil, fmt.Errorf("it runs over %d pages, and there are %d pages in all", overflow, r.meta.pages)
	}
	for i := range overflow + 1 {
		if r.seen[id+i] {
			return nil, fmt.Errorf("page %d has two places", id+i)
		}
		r.seen[id+i] = true
	}
	body := make([]byte, int64(overflow+1)*r.meta.pageSize)
	if _, err := r.file.ReadAt(body, int64(id)*r.meta.pageSize); err != nil {
		return nil, readError(err)
	}
	return body, nil
}

// bucket gives the pairs of a bucket, whose leaf has a value.
func (r *reader) bucket(value []byte) (pairs []pair, err error) {
	if len(value) < bucketHeader {
		return nil, fmt.Errorf("its value has %d bytes", len(value))
	}
	var elements []element
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		elements, err = r.tree(root)
	} else {
		elements, err = inline(value[bucketHeader:])
	}
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		if e.flags != 0 {
			return nil, fmt.Errorf("the key %q is a bucket in a bucket", e.key)
		}
		pairs = append(pairs, e.pair)
	}
	return pairs, nil
}

// inline gives the elements of a small bucket, a page inside a value.
func inline(body []byte) ([]element, error) {
	if len(body) < pageHeader || binary.LittleEndian.Uint16(body[8:]) != leafPage {
		return nil, errors.New("there is no page in its value")
	}
	elements, err := leaf(body)
	for i := 1; i < len(elements); i++ {
		if bytes.Compare(elements[i-1].key, elements[i].key) >= 0 {
			return nil, fmt.Errorf("the key %q is not behind %q", elements[i].key, elements[i-1].key)
		}
	}
	return elements, err
}

// leaf gives the elements of a leaf. Their bytes are the page's.
func leaf(body []byte) (elements []element, err error) {
	count := int(binary.LittleEndian.Uint16(body[10:]))
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(body) {
			return nil, fmt.Errorf("its %d elements do not fit into it", count)
		}
		e := body[at:]
		pos, ksize, vsize := binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		key, ok := part(e, pos, ksize)
		value, fits := part(e, pos+ksize, vsize)
		if !ok || !fits || uint64(pos)+uint64(ksize) > uint64(len(e)) {
			return nil, fmt.Errorf("element %d is not in the page", i)
		}
		elements = append(elements, element{binary.LittleEndian.Uint32(e), pair{key, value}})
	}
	return elements, nil
}

// part is a part of a page behind the beginning of an element.
func part(b []byte, pos, size uint32) ([]byte, bool) {
	end := uint64(pos) + uint64(size)
	if end > uint64(len(b)) {
		return nil, false
	}
	return b[pos:end:end], true
}

// readError is the error of a read. The end of the file inside a page is damage.
func readError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // ReadAt gives io.EOF itself
		return errors.New("the file ends before it")
	}
	return &fileError{err}
}

// fileError is an error of the disk. The content of the file may be in order.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }
