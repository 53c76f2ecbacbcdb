// Package token has the bearer tokens of the admin interface. A token has a name, which the audit log shows, and a role. The file tokens.json of a
// directory has a digest of each token, so that a copy of the file is of no use. The first token is made with the file; it may do everything, and is
// in the file admin.token too, which its user alone can read: commands of that user find it there. For example, a script of another user gets a
// token of its own, with the role read, and is taken out again by its name.
//
// Several processes may use a directory at once: each reads tokens.json again when it has changed.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

const (
	// File has the tokens of a directory, and First the text of the first of them.
	File  = "tokens.json"
	First = "admin.token"
	// URLs has the addresses of a node beside the first token, one a line.
	URLs = "admin.urls"

	// FirstName is the name of the first token.
	FirstName = "admin"

	lockName = "tokens.lock"
	prefix   = "helve_" // by which scanners for secrets know a token
	fileMax  = 1 << 20
	countMax = 1000
)

// Info is a token without its text.
type Info struct {
	Name string         `json:"name"`
	Role helvetype.Role `json:"role"`
	// CreatedAt is the time at which it was made.
	CreatedAt time.Time `json:"created_at"`
}

// entry is a token in the file.
type entry struct {
	Info
	Digest string `json:"sha256"`
}

// Tokens are the tokens of a directory. Its methods may be called from any goroutine.
type Tokens struct {
	dir string

	mu   sync.Mutex
	seen stamp
	of   map[string]Info // by digest
}

// stamp tells one content of a file from another.
type stamp struct {
	at   time.Time
	size int64
	file uint64
}

// Open uses the tokens of a directory, which belongs to the user of this process. The first token is made if there is none.
func Open(dir string) (*Tokens, error) {
	t := &Tokens{dir: dir}
	err := t.change(func(all []entry) ([]entry, error) {
		if len(all) > 0 {
			return all, nil
		}
		text, first := create(FirstName, helvetype.RoleDeploy)
		return []entry{first}, write(filepath.Join(dir, First), []byte(text+"\n"))
	})
	if err != nil {
		return nil, fmt.Errorf("the tokens of the admin interface: %w", err)
	}
	return t, nil
}

// Read gives the text of the first token of a directory.
func Read(dir string) (string, error) {
	path := filepath.Join(dir, First)
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if !strings.HasPrefix(text, prefix) || len(text) > 200 {
		return "", fmt.Errorf("%s has no token", path)
	}
	return text, nil
}

// Find gives the first token of the node of this user that serves a URL, which has its private directory among the given ones; "" for none. For example, a
// command with the address http://127.0.0.1:8265 finds the token of the node that listens there, and sends it to no other one.
func Find(url string, private []string) string {
	for _, dir := range private {
		b, err := os.ReadFile(filepath.Join(dir, URLs))
		if err != nil || url == "" || !slices.Contains(strings.Split(string(b), "\n"), strings.TrimSuffix(url, "/")) {
			continue
		}
		if text, err := Read(dir); err == nil {
			return text
		}
	}
	return ""
}

// Check finds a token by its text.
func (t *Tokens) Check(text string) (Info, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.readLocked(); err != nil { // a file that cannot be read has no tokens
		return Info{}, false
	}
	info, ok := t.of[digest(text)]
	return info, ok
}

// List has the tokens, the oldest first.
func (t *Tokens) List() ([]Info, error) {
	all, err := t.load()
	list := make([]Info, 0, len(all))
	for _, e := range all {
		list = append(list, e.Info)
	}
	return list, err
}

// The mistakes of a caller.
var (
	ErrName    = errors.New("the name of a token has 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit")
	ErrRole    = fmt.Errorf("the role of a token is %s, %s or %s", helvetype.RoleRead, helvetype.RoleOperate, helvetype.RoleDeploy)
	ErrExists  = errors.New("there is a token of this name: remove it first")
	ErrMissing = errors.New("there is no token of this name")
	ErrMany    = fmt.Errorf("there are %d tokens: remove some first", countMax)
)

var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Add makes a token. Its text is in the answer, and nowhere else.
func (t *Tokens) Add(name string, role helvetype.Role) (text string, err error) {
	if !names.MatchString(name) {
		return "", ErrName
	}
	if Rank(role) == 0 {
		return "", ErrRole
	}
	err = t.change(func(all []entry) ([]entry, error) {
		if slices.ContainsFunc(all, func(e entry) bool { return e.Name == name }) {
			return nil, ErrExists
		}
		if len(all) >= countMax {
			return nil, ErrMany
		}
		var made entry
		text, made = create(name, role)
		if name == FirstName { // commands of this user look for it in the file
			if err := write(filepath.Join(t.dir, First), []byte(text+"\n")); err != nil {
				return nil, err
			}
		}
		return append(all, made), nil
	})
	return text, err
}

// Remove takes a token out. Requests that run go on.
func (t *Tokens) Remove(name string) error {
	return t.change(func(all []entry) ([]entry, error) {
		left := slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.Name == name })
		if len(left) == len(all) {
			return nil, ErrMissing
		}
		if name == FirstName {
			if err := os.Remove(filepath.Join(t.dir, First)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		return left, nil
	})
}

// Rank orders the roles: a role may do all that the roles of a lower rank may. 0 is for no role.
func Rank(r helvetype.Role) int {
	switch r {
	case helvetype.RoleRead:
		return 1
	case helvetype.RoleOperate:
		return 2
	case helvetype.RoleDeploy:
		return 3
	}
	return 0
}

// create makes a token of 256 random bits.
func create(name string, role helvetype.Role) (text string, e entry) {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails since Go 1.24
	text = prefix + base64.RawURLEncoding.EncodeToString(b[:])
	return text, entry{Info{name, role, time.Now().UTC().Truncate(time.Second)}, digest(text)}
}

// digest needs no salt and no slow hash, which protect passwords: no list has texts of 256 random bits.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// load reads the file. A directory without it has no tokens.
func (t *Tokens) load() (all []entry, err error) {
	b, err := os.ReadFile(filepath.Join(t.dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && len(b) > fileMax {
		err = fmt.Errorf("has %d bytes", len(b))
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(t.dir, File), err)
	}
	return all, nil
}

// readLocked reads the file again if it has changed.
func (t *Tokens) readLocked() error {
	st, err := os.Stat(filepath.Join(t.dir, File))
	if err != nil {
		return err
	}
	now := stamp{at: st.ModTime(), size: st.Size()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		now.file = sys.Ino
	}
	if t.of != nil && now == t.seen {
		return nil
	}
	all, err := t.load()
	if err != nil {
		return err
	}
	t.of, t.seen = make(map[string]Info, len(all)), now
	for _, e := range all {
		t.of[e.Digest] = e.Info
	}
	return nil
}

// change writes the file anew, with the tokens that f gives. An error of f leaves the file as it is.
func (t *Tokens) change(f func(all []entry) ([]entry, error)) error {
	lock, err := os.OpenFile(filepath.Join(t.dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and the lock with it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	all, err := t.load()
	if err != nil {
		return err
	}
	next, err := f(all)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	return write(filepath.Join(t.dir, File), append(b, '\n'))
}

// write puts a file of mode 0600 in the place of the one before. A process that is killed meanwhile leaves the one before.
func write(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the first error counts
	}
	return err
}
