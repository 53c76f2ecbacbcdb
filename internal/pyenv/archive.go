package pyenv

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mostUnpacked bounds the bytes of the files of one archive, so that a small archive of zeros does not fill the disk, and mostFiles their number: an empty file needs
// space too.
const (
	mostUnpacked = 8 << 30
	mostFiles    = 200_000
)

// IsArchive says whether a path names an archive by its ending: .zip, or .whl, which is one too.
func IsArchive(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".zip" || ext == ".whl"
}

// Unpack gives the directory with the files of an archive, which it unpacks once for each content. For example, app.zip is built again: its
// files are in another directory, and workers that run go on with the files of before.
func (c *Cache) Unpack(ctx context.Context, archive string) (string, error) {
	digest, err := FileDigest(archive)
	if err != nil {
		return "", err
	}
	return c.unpack(ctx, archive, digest)
}

func (c *Cache) unpack(ctx context.Context, archive, digest string) (string, error) {
	final := filepath.Join(c.dir, "unpacked", digest[:32])
	if noteUse(final) {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return "", fmt.Errorf("the directory of archives (set HELVE_CACHE for another): %w", err)
	}
	unlock, err := lock(ctx, final+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if noteUse(final) {
		return final, nil
	}
	removeStrays(final)
	c.removeUnused(time.Now())
	dir, err := os.MkdirTemp(filepath.Dir(final), filepath.Base(final)+stray)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it has another name by now
	if err := unzip(ctx, archive, dir); err != nil {
		return "", fmt.Errorf("%s cannot be unpacked: %w", archive, err)
	}
	if now, err := FileDigest(archive); err != nil || now != digest { // the files may be half of one archive, and half of another
		return "", errors.Join(err, fmt.Errorf("%s cannot be unpacked: it has changed meanwhile", archive))
	}
	if err := os.Rename(dir, final); err != nil {
		return "", err
	}
	return final, nil
}

func unzip(ctx context.Context, archive, dir string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	if len(z.File) > mostFiles {
		return fmt.Errorf("it has more than %d files", mostFiles)
	}
	left := int64(mostUnpacked)
	for _, f := range z.File {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`) {
			return fmt.Errorf("the name %q leads out of it", f.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if strings.HasSuffix(f.Name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				return err
			}
			continue
		}
		if !f.Mode().IsRegular() {
			return fmt.Errorf("%q is no file: links are not taken", f.Name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		n, err := unpackFile(ctx, f, path, left)
		if err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		left -= n
	}
	return nil
}

func unpackFile(ctx context.Context, f *zip.File, path string, most int64) (n int64, err error) {
	in, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|f.Mode().Perm()&0o100)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, io.LimitReader(wanted{ctx, in}, most+1))
	err = errors.Join(err, out.Close())
	if err == nil && n > most {
		err = fmt.Errorf("the files have more than %d bytes", int64(mostUnpacked))
	}
	return n, err
}

// wanted is a reader that fails when ctx has ended: a start that is given up does not hold up the end of its application, for which gigabytes are unpacked.
type wanted struct {
	ctx context.Context
	io.Reader
}

func (r wanted) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// Link gives a directory that has a module alone, under its name: its siblings are not to be found by import. For example, /srv/lib/mine is
// linked as mine, and /srv/lib/json.py stays out of the way.
func (c *Cache) Link(module string) (string, error) {
	sum := sha256.Sum256([]byte(module))
	dir := filepath.Join(c.dir, "links", hex.EncodeToString(sum[:16]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("the directory of links (set HELVE_CACHE for another): %w", err)
	}
	err := os.Symlink(module, filepath.Join(dir, filepath.Base(module)))
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return dir, err
}
