// Package pack keeps the code of programs as it was when they were deployed. A directory becomes one file of the format tar, whose bytes depend on
// the names and contents of its files alone, and the file becomes a directory again, under its digest. For example, a script deploys the directory
// /srv/shop with shop.py and prices.csv: the node keeps the file 3f1c..., and workers import shop.py from code/3f1c.../shop.py, also after /srv/shop
// has changed or is gone.
//
// A file has directories and regular files, and no links: a link is packed as the file or directory that it leads to. So no unpacked file
// leads out of its directory.
package pack

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits bound the files of one directory.
type Limits struct {
	Files int   // directories count too
	Bytes int64 // of all files together
	Depth int   // of directories in each other
}

// Default are the limits of a node. A directory of code is far below them; one with data sets or models of many gigabytes is above, and is left where
// it is.
func Default() Limits { return Limits{Files: 20_000, Bytes: 256 << 20, Depth: 64} }

// TooLargeError says that a directory is over the limits.
type TooLargeError struct{ text string }

func (e *TooLargeError) Error() string { return e.text }

func tooLarge(format string, args ...any) error { return &TooLargeError{fmt.Sprintf(format, args...)} }

func (l Limits) check(files int, bytes int64, depth int) error {
	switch {
	case files > l.Files:
		return tooLarge("it has more than %d files", l.Files)
	case bytes > l.Bytes:
		return tooLarge("its files have more than %d MiB", l.Bytes>>20)
	case depth > l.Depth:
		return tooLarge("it has more than %d directories in each other", l.Depth)
	}
	return nil
}

// Tree is a directory, or a single file, that is to be packed.
type Tree struct {
	root    string
	entries []entry
}

// entry is a directory or file of a tree. name is its path in the packed file, with slashes, and path where it lies.
type entry struct {
	name, path string
	size       int64
	dir, exec  bool
}

// Scan lists what is to be packed of a directory, below its own name: for example, the file shop.py of /srv/shop is packed as shop/shop.py. A regular
// file is a tree of one file.
//
// Left out are files that all of leave match, and directories that other programs make from the code or keep beside it: of version control, virtual environments, caches, node_modules,
// and the directories of nodes; sockets, pipes and devices; files that this user cannot read, and links that lead nowhere.
func Scan(path string, l Limits, leave ...Excludes) (*Tree, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	s := scan{limits: l, leave: leave, tree: &Tree{root: path}}
	switch {
	case !filepath.IsAbs(path):
		err = fmt.Errorf("the path %s is not absolute", path)
	case path == "/":
		err = &UnsuitableError{"it has all files of the machine"}
	case !filepath.IsLocal(name) || !utf8.ValidString(name):
		err = &UnsuitableError{"its name is not one of a file in UTF-8"}
	case st.Mode().IsRegular():
		err = s.add(entry{name: name, path: path, size: st.Size(), exec: st.Mode()&0o100 != 0})
	case !st.IsDir():
		err = &UnsuitableError{"it is neither a directory nor a file"}
	default:
		if err := check(path, st); err != nil {
			return nil, err
		}
		if err = s.add(entry{name: name, path: path, dir: true}); err == nil {
			err = s.directory(path, name, []fs.FileInfo{st})
		}
	}
	if large, ok := errors.AsType[*TooLargeError](err); ok && len(s.tree.entries) > 1 {
		large.text += fmt.Sprintf(", of those read: %s. %s", s.tree.largest(), advice)
	}
	return s.tree, err
}

// UnsuitableError says that a directory is not one of a program alone. It has files that are not meant to be kept with the program, or that change: for
// example, a script in a home directory must not have the keys in .ssh kept, and exported, with its code.
type UnsuitableError struct{ text string }

func (e *UnsuitableError) Error() string { return e.text }

// check gives an error for a home directory, and for one in which all users may make files, such as /tmp.
func check(path string, st fs.FileInfo) error {
	if st.Mode()&fs.ModeSticky != 0 {
		return &UnsuitableError{"all users have files in it"}
	}
	for _, name := range []string{".ssh", ".profile", ".bashrc", ".bash_history", ".zshrc"} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return &UnsuitableError{"it is a home directory"}
		}
	}
	return nil
}

// scan is one Scan.
type scan struct {
	limits Limits
	leave  []Excludes
	tree   *Tree
	bytes  int64
}

func (s *scan) add(e entry) error {
	s.tree.entries = append(s.tree.entries, e)
	s.bytes += e.size
	return s.limits.check(len(s.tree.entries), s.bytes, 0)
}

// directory adds the entries of a directory. above are the directories around it and itself: a link to one of them would never end.
func (s *scan) directory(path, name string, above []fs.FileInfo) error {
	if err := s.limits.check(0, 0, len(above)); err != nil {
		return err
	}
	entries, err := os.ReadDir(path) // in the order of their names
	if err != nil {
		if len(above) > 1 && errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		at := filepath.Join(path, e.Name())
		inside := name + "/" + e.Name()
		st, err := os.Stat(at) // of the file that a link leads to
		if err != nil || !utf8.ValidString(e.Name()) || excluded(s.leave, strings.TrimPrefix(inside, s.tree.entries[0].name+"/"), st.IsDir()) {
			continue
		}
		switch {
		case st.IsDir():
			if e.Type()&fs.ModeSymlink != 0 {
				if err := check(at, st); err != nil {
					return &UnsuitableError{fmt.Sprintf("the link %s leads out of it: %v", at, err)}
				}
			}
			if leaveDirectory(e.Name(), at) || slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, st) }) {
				continue
			}
			err = s.add(entry{name: inside, path: at, dir: true})
			if err == nil {
				err = s.directory(at, inside, append(slices.Clip(above), st))
			}
		case st.Mode().IsRegular() && !leaveFile(e.Name()) && readable(at):
			err = s.add(entry{name: inside, path: at, size: st.Size(), exec: st.Mode()&0o100 != 0})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveDirectory says that a directory is no code of the program: by its name, or by a file that marks a virtual environment, a cache or the directory of
// a node.
func leaveDirectory(name, path string) bool {
	switch name {
	case ".git", ".hg", ".svn", ".bzr", ".jj", "__pycache__", "node_modules", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox",
		".ipynb_checkpoints":
		return true
	}
	for _, mark := range []string{"pyvenv.cfg", "CACHEDIR.TAG", "helve-node"} {
		if _, err := os.Lstat(filepath.Join(path, mark)); err == nil {
			return true
		}
	}
	return false
}

func leaveFile(name string) bool { return strings.HasSuffix(name, ".pyc") || name == ".DS_Store" }

func readable(path string) bool {
	f, err := os.Open(path)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// Write writes the packed file, and gives the [Packed.Content]. Two trees with the same names, contents and rights to execute give the same bytes: there are no times and no owners in
// it. A file that grows meanwhile, such as a log, is packed with the size that it had; a file that gets shorter is an error.
func (t *Tree) Write(w io.Writer) (content string, err error) {
	out, sum := tar.NewWriter(w), sha256.New()
	for _, e := range t.entries {
		fmt.Fprintf(sum, "%q %t %t %d\n", strings.TrimPrefix(e.name, t.entries[0].name), e.dir, e.exec, e.size) //nolint:errcheck // it gives none
		if err := e.write(out, sum); err != nil {
			return "", fmt.Errorf("%s cannot be packed: %w", t.root, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), out.Close()
}

// write writes an entry, and the bytes of a file to sum too.
func (e entry) write(out *tar.Writer, sum io.Writer) error {
	if e.dir {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: e.name + "/", Mode: 0o755})
	}
	f, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: 0o644}
	if e.exec {
		h.Mode = 0o755
	}
	if err := out.WriteHeader(&h); err != nil {
		return err
	}
	if _, err := io.CopyN(io.MultiWriter(out, sum), f, e.size); errors.Is(err, io.EOF) {
		return &UnsuitableError{fmt.Sprintf("%s has become shorter while it was read", e.path)}
	} else if err != nil {
		return err
	}
	return nil
}

// Unpack makes the files of a packed file in a directory, which is there and empty. Directories have the mode 0700, because Python keeps compiled
// modules beside the sources, and files the mode 0400 or 0500. A name that leads out of the directory, a link and a name that is there twice are errors.
// After an error some files may be there.
func Unpack(r io.Reader, dir string, l Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files, bytes := 0, int64(0)
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		files++
		name := strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(name) || filepath.Clean(name) != name || name == "." {
			return fmt.Errorf("the name %q leads out of it", h.Name)
		}
		if err := l.check(files, bytes, strings.Count(name, "/")); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(name, 0o700)
		case tar.TypeReg:
			var n int64
			n, err = unpackFile(root, name, 0o400|fs.FileMode(h.Mode)&0o100, in, l.Bytes-bytes)
			bytes += n
		default:
			err = fmt.Errorf("%q is neither a file nor a directory", h.Name)
		}
		if err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, r) // bytes behind the end belong to the digest of r
	return err
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, in io.Reader, most int64) (n int64, err error) {
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.LimitReader(in, most+1))
	if err = errors.Join(err, out.Close()); err == nil && n > most {
		err = tooLarge("its files have too many bytes")
	}
	return n, err
}
