package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// An export is one file with all records and blobs of a state directory: an uncompressed tar archive, which `tar tvf` lists. Its entries are, in this
// order, "helve-state.json" (type exportHeader), "records.json" (a list of exportRecord), "blobs/DIGEST" for each blob, and "sha256": the SHA-256 of all
// bytes of the file before this entry, in hex.
const (
	exportFormat  = 1
	exportName    = "helve-state.json"
	recordsName   = "records.json"
	sumName       = "sha256"
	exportTail    = 4 * 512 // bytes of the last entry and of the end of the archive
	exportRetries = 20
	exportPause   = 50 * time.Millisecond
)

// exportHeader says what is in an export.
type exportHeader struct {
	Format   int       `json:"format"`
	Revision int64     `json:"revision"` // no revision of the store is above it
	Records  int       `json:"records"`
	Blobs    int       `json:"blobs"`
	At       time.Time `json:"at"`
}

// exportRecord is a record in an export.
type exportRecord struct {
	Key      string `json:"key"`
	Value    []byte `json:"value"`
	Created  int64  `json:"created"`
	Modified int64  `json:"modified"`
}

// Summary says what an export has.
type Summary struct {
	Applications int
	Records      int
	Blobs        int
	Bytes        int64 // of the file
	// Before is the name of the store that a recovery has put aside; "" for none.
	Before string
}

func summary(h exportHeader, records []store.KV, size int64) Summary {
	s := Summary{Records: h.Records, Blobs: h.Blobs, Bytes: size}
	for _, r := range records {
		if key, err := store.ParseKey(r.Key); err == nil && key.Kind == "apps" {
			s.Applications++
		}
	}
	return s
}

// Export writes the state of a directory into a file, which has its name when it is complete; a file that is there is replaced. The node may run: the
// records are those of one transaction, and an export that lacks a blob of theirs is made again. For example, an application is deleted while its
// blobs are copied, and the node removes them: the export begins anew, without the application.
func Export(ctx context.Context, dir, file string) (Summary, error) {
	target, err := filepath.Abs(file)
	if err != nil {
		return Summary{}, err
	}
	out, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".")
	if err != nil {
		return Summary{}, err
	}
	defer os.Remove(out.Name()) // there is none after the rename
	defer out.Close()
	s, err := exportWhole(ctx, dir, out)
	if err == nil {
		err = errors.Join(out.Sync(), out.Close())
	}
	if err == nil {
		err = os.Rename(out.Name(), target)
	}
	return s, err
}

// exportWhole writes an export that has all blobs of its records.
func exportWhole(ctx context.Context, dir string, out *os.File) (s Summary, err error) {
	for range exportRetries {
		whole := false
		if s, whole, err = exportOnce(dir, out); err == nil && whole || err != nil && !inUse(dir) {
			return s, err
		}
		select { // a running node was writing
		case <-time.After(exportPause):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
	if err == nil {
		err = errors.New("the applications change all the time: try again later, or stop the node")
	}
	return s, err
}

// exportOnce writes an export. whole is false if it lacks a blob of its records, and the store has changed since they were read.
func exportOnce(dir string, out *os.File) (s Summary, whole bool, err error) {
	path := filepath.Join(dir, storeName)
	records, content, transaction, err := readPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, fmt.Errorf("%s is not the state directory of a node that was started with helve start: it has no %s", dir, storeName)
	}
	if err != nil {
		return s, false, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, blobsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, false, err
	}
	var digests []string
	for _, e := range entries {
		if store.IsDigest(e.Name()) {
			digests = append(digests, e.Name())
		}
	}
	if err := errors.Join(out.Truncate(0), seekStart(out)); err != nil {
		return s, false, err
	}
	h := exportHeader{Format: exportFormat, Revision: content.reserved, Records: len(records), Blobs: len(digests), At: time.Now().UTC().Truncate(time.Second)}
	if err := writeExport(out, h, records, dir, digests); err != nil {
		return s, false, err
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return s, false, err
	}
	s = summary(h, records, size)
	if hasAll(records, digests) {
		return s, true, nil
	}
	_, after, last, err := readPath(path)
	return s, last == transaction && after == content, err
}

// hasAll says whether the blobs that the revisions among records need are among digests, which are in order.
func hasAll(records []store.KV, digests []string) bool {
	for _, r := range records {
		needed, err := store.BlobsOf(r)
		if err != nil {
			return false
		}
		for _, digest := range needed {
			if _, there := slices.BinarySearch(digests, digest); !there {
				return false
			}
		}
	}
	return true
}

func seekStart(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// readPath reads a store without its lock.
func readPath(path string) (records []store.KV, c content, transaction uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, c, 0, err
	}
	defer f.Close()
	if records, _, c, transaction, err = read(f); err != nil {
		return nil, c, 0, named(path, err)
	}
	return records, c, transaction, nil
}

// inUse says whether a node has the store of a directory open. A reader without the lock may meet a page that the node is just using anew.
func inUse(dir string) bool {
	f, err := os.Open(filepath.Join(dir, storeName))
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock, if it was free
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// writeExport writes all of an export.
func writeExport(out io.Writer, h exportHeader, records []store.KV, dir string, digests []string) error {
	sum := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(out, sum))
	list := make([]exportRecord, 0, len(records))
	for _, r := range records {
		list = append(list, exportRecord{r.Key, r.Value, r.Created, r.Modified})
	}
	for _, e := range []struct {
		name    string
		content any
	}{{exportName, h}, {recordsName, list}} {
		text, err := json.MarshalIndent(e.content, "", " ")
		if err != nil {
			return err
		}
		if err := writeEntry(archive, e.name, 0o600, int64(len(text)), bytes.NewReader(text)); err != nil {
			return err
		}
	}
	blobs := &Blobs{dir: filepath.Join(dir, blobsName)}
	for _, digest := range digests {
		if err := exportBlob(archive, blobs, digest); err != nil {
			return fmt.Errorf("blob %s: %w", digest, err)
		}
	}
	if err := archive.Flush(); err != nil {
		return err
	}
	_, err := out.Write(tail(hex.EncodeToString(sum.Sum(nil))))
	return err
}

func exportBlob(archive *tar.Writer, b *Blobs, digest string) error {
	st, err := os.Lstat(b.path(digest))
	if err != nil {
		return err
	}
	r, err := b.Open(digest)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeEntry(archive, blobsName+"/"+digest, int64(st.Mode().Perm()), st.Size(), r)
}

func writeEntry(archive *tar.Writer, name string, mode, size int64, content io.Reader) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: size, Format: tar.FormatUSTAR, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

// tail is the end of an export whose bytes before it have a digest.
func tail(digest string) []byte {
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	err := errors.Join(writeEntry(archive, sumName, 0o600, int64(len(digest)), strings.NewReader(digest)), archive.Close())
	if err != nil || b.Len() != exportTail { // a buffer takes all
		panic(fmt.Sprintf("the end of an export has %d bytes: %v", b.Len(), err))
	}
	return b.Bytes()
}

// CheckExport gives an error if a file is no whole export. It changes nothing.
func CheckExport(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err == nil {
		err = checkSum(in, st.Size())
	}
	if err == nil {
		_, _, err = readExport(in, func(_ string, _ bool, content io.Reader) error {
			_, err := io.Copy(io.Discard, content)
			return err
		})
	}
	if err != nil {
		return namedExport(file, err)
	}
	return nil
}

// Import puts an export into a directory that has no store yet. The caller has claimed the directory.
func Import(ctx context.Context, dir, file string) (Summary, error) {
	if _, err := os.Lstat(filepath.Join(dir, storeName)); !errors.Is(err, fs.ErrNotExist) {
		return Summary{}, errors.Join(err, fmt.Errorf("%s has a store: an import takes a directory without one, and helve start --recover FILE replaces it", dir))
	}
	return Recover(ctx, dir, file)
}

// Recover puts an export into a directory in place of the store that is there, which may be damaged: it is kept under the name store.db.before-TIME. The
// caller has claimed the directory. A process that is killed meanwhile leaves the store as it was.
func Recover(ctx context.Context, dir, file string) (Summary, error) {
	in, err := os.Open(file)
	if err != nil {
		return Summary{}, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return Summary{}, err
	}
	if err := checkSum(in, st.Size()); err != nil {
		return Summary{}, namedExport(file, err)
	}
	path := filepath.Join(dir, storeName)
	if inUse(dir) {
		return Summary{}, fmt.Errorf("%s is in use: stop the node first", path)
	}
	if err := removeLeftovers(dir); err != nil {
		return Summary{}, err
	}
	blobs, err := openBlobs(dir, false)
	if err != nil {
		return Summary{}, err
	}
	var failed error // of this directory, and not of the export
	h, records, err := readExport(in, func(digest string, executable bool, content io.Reader) error {
		var got string
		if got, _, failed = blobs.write(ctx, content, executable); failed == nil && got != digest {
			return fmt.Errorf("blob %s has another digest", digest)
		}
		return failed
	})
	if failed != nil {
		return Summary{}, failed
	}
	if err != nil {
		return Summary{}, namedExport(file, err)
	}
	s := summary(h, records, st.Size())
	s.Before, err = putAside(path)
	if err != nil {
		return Summary{}, err
	}
	c, ops := content{reserved: h.Revision}, make([]store.Op, 0, len(records))
	for _, r := range records {
		op := store.Put(r.Key, encode(r))
		ops = append(ops, op)
		c.all.xor(sumOf(op.Key, op.Value))
		c.records++
	}
	db, err := create(dir, c, ops, false)
	if err != nil {
		return Summary{}, fmt.Errorf("the store was not written to %s: %w", dir, err)
	}
	return s, db.Close()
}

// putAside gives a store a second name, under which it stays when it is replaced.
func putAside(path string) (name string, err error) {
	name = path + ".before-" + time.Now().UTC().Format("20060102-150405.000000000")
	err = os.Link(path, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return name, err
}

// checkSum compares an export with its digest.
func checkSum(in io.ReaderAt, size int64) error {
	if size < exportTail {
		return fmt.Errorf("it has %d bytes, and is no export", size)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(in, 0, size-exportTail)); err != nil {
		return &fileError{err}
	}
	end := make([]byte, exportTail)
	if _, err := in.ReadAt(end, size-exportTail); err != nil {
		return &fileError{err}
	}
	if !bytes.Equal(end, tail(hex.EncodeToString(sum.Sum(nil)))) {
		return errors.New("its bytes are not those of its digest, or it is no export")
	}
	return nil
}

// readExport reads an export, and gives each blob to a function.
func readExport(in io.Reader, blob func(digest string, executable bool, content io.Reader) error) (h exportHeader, records []store.KV, err error) {
	archive := tar.NewReader(in)
	if err := readJSON(archive, exportName, &h); err != nil {
		return h, nil, err
	}
	if h.Format > exportFormat {
		return h, nil, &FormatError{Format: h.Format, Reads: exportFormat}
	}
	var list []exportRecord
	if err := readJSON(archive, recordsName, &list); err != nil {
		return h, nil, err
	}
	for _, r := range list {
		kv := store.KV{Key: r.Key, Value: r.Value, Created: r.Created, Modified: r.Modified}
		if err := store.Check(kv); err != nil {
			return h, nil, err
		}
		if store.Volatile(kv.Key) || kv.Created < 1 || kv.Modified < kv.Created || kv.Modified > h.Revision || len(kv.Value) > store.MaxValue {
			return h, nil, fmt.Errorf("record %s is none that a store keeps", kv.Key)
		}
		if len(records) > 0 && records[len(records)-1].Key >= kv.Key {
			return h, nil, fmt.Errorf("record %s is not behind %s", kv.Key, records[len(records)-1].Key)
		}
		records = append(records, kv)
	}
	if h.Format < 1 || len(records) != h.Records {
		return h, nil, fmt.Errorf("it has %d records and should have %d, in format %d", len(records), h.Records, h.Format)
	}
	blobs := 0
	for {
		e, err := archive.Next()
		if err != nil {
			return h, nil, err
		}
		digest, ok := strings.CutPrefix(e.Name, blobsName+"/")
		switch {
		case e.Name == sumName && blobs == h.Blobs:
			return h, records, nil
		case !ok || !store.IsDigest(digest) || e.Typeflag != tar.TypeReg:
			return h, nil, fmt.Errorf("it has an entry %q, after %d of %d blobs", e.Name, blobs, h.Blobs)
		}
		if err := blob(digest, e.FileInfo().Mode().Perm()&0o100 != 0, archive); err != nil {
			return h, nil, err
		}
		blobs++
	}
}

// readJSON reads the next entry of an archive, which must have a name.
func readJSON(archive *tar.Reader, name string, into any) error {
	e, err := archive.Next()
	if err != nil {
		return err
	}
	if e.Name != name {
		return fmt.Errorf("it has %q in the place of %s", e.Name, name)
	}
	if err := json.NewDecoder(archive).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
