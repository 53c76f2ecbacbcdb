// Package fetch brings archives from web servers to a directory of this machine: the working_dir and py_modules of files for Ray Serve are URIs of archives, such as
// https://github.com/owner/repository/archive/COMMIT.zip.
package fetch

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Limits of one archive.
const (
	maxSize = 1 << 30
	maxTime = 5 * time.Minute
)

// IsRemote says whether a path is the URI of an archive that [Archive] can bring.
func IsRemote(path string) bool {
	return strings.HasPrefix(path, "https://") || strings.HasPrefix(path, "http://")
}

// Archive brings the archive of a URI into dir, and gives its path there, which has the digest of the content in its name: an archive that has changed has another
// path, so that a deploy of it is a change. A directory that has all other files of the archive inside is left out, as in Ray: archives of GitHub have
// one. For example, repository-COMMIT/model.py is model.py.
func Archive(ctx context.Context, client *http.Client, uri, dir string) (path string, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(u.Path, ".zip") && !strings.HasSuffix(u.Path, ".whl") {
		return "", fmt.Errorf("%s: must be a .zip or .whl file", u.Redacted())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("%s: took longer than %s", u.Redacted(), maxTime))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return "", err
	}
	answer, err := encrypted(client).Do(request)
	if err != nil {
		return "", fmt.Errorf("%s cannot be fetched: %w", u.Redacted(), cause(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s cannot be fetched: the server answers %s", u.Redacted(), answer.Status)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	got, err := os.CreateTemp(dir, "fetched-*.part")
	if err != nil {
		return "", err
	}
	defer os.Remove(got.Name())
	defer got.Close()
	n, err := io.Copy(got, io.LimitReader(answer.Body, maxSize+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s cannot be fetched: %w", u.Redacted(), err)
	case n > maxSize:
		return "", fmt.Errorf("%s is larger than %d bytes", u.Redacted(), maxSize)
	}
	kept := got
	if strings.HasSuffix(u.Path, ".zip") {
		if kept, err = os.CreateTemp(dir, "stripped-*.part"); err != nil {
			return "", err
		}
		defer os.Remove(kept.Name())
		defer kept.Close()
		if err := strip(kept, got, n); err != nil {
			return "", fmt.Errorf("%s: %w", u.Redacted(), err)
		}
	}
	return name(kept, dir, filepath.Ext(u.Path))
}

// redirectsMax is as in package net/http.
const redirectsMax = 10

// encrypted is a client that leaves TLS for no redirect: replicas run what the archive has. For example, https://files.example/a.zip may lead to another host, but not
// to http://files.example/a.zip, for which anybody on the way could answer.
func encrypted(client *http.Client) *http.Client {
	strict := *client
	strict.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= redirectsMax:
			return fmt.Errorf("%d redirects are too many", redirectsMax)
		case via[len(via)-1].URL.Scheme == "https" && to.URL.Scheme != "https":
			return fmt.Errorf("it leads to %s, which is not https", to.URL.Redacted())
		}
		return nil
	}
	return &strict
}

// cause is the reason in an error of a client, without the URI, which may have a password.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// name gives a file its last name, after its content.
func name(file *os.File, dir, ext string) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", err
	}
	path := filepath.Join(dir, hex.EncodeToString(digest.Sum(nil))[:32]+ext)
	return path, os.Rename(file.Name(), path)
}

// strip writes an archive without the one directory that all of its files are in.
func strip(to io.Writer, from io.ReaderAt, size int64) error {
	r, err := zip.NewReader(from, size)
	if err != nil {
		return errors.New("is no archive in the form of .zip")
	}
	top := topOf(r.File)
	w := zip.NewWriter(to)
	for _, f := range r.File {
		h := f.FileHeader
		if h.Name = strings.TrimPrefix(f.Name, top); h.Name == "" {
			continue // the directory itself
		}
		part, err := w.CreateRaw(&h)
		if err != nil {
			return err
		}
		content, err := f.OpenRaw()
		if err != nil {
			return err
		}
		if _, err := io.Copy(part, content); err != nil {
			return err
		}
	}
	return w.Close()
}

// topOf is "NAME/" if all files are in a directory of that name.
func topOf(files []*zip.File) string {
	top := ""
	for _, f := range files {
		first, _, in := strings.Cut(f.Name, "/")
		if !in || first == "" || first == ".." || top != "" && top != first+"/" {
			return ""
		}
		top = first + "/"
	}
	return top
}
