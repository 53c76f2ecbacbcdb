package disk

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/internal/store"
)

// The environment of a child that a test ends or limits: the name of its function, and its directory. killsEnv is the number of kills of TestKills.
const (
	childEnv    = "HELVE_STORE_CHILD"
	childDirEnv = "HELVE_STORE_CHILD_DIR"
	killsEnv    = "HELVE_STORE_KILLS"
)

// TestMain has the program of the tests be a child too.
func TestMain(m *testing.M) {
	child := map[string]func(dir string) error{"write": writeUntilKilled, "full": writeUntilFull, "readonly": openReadOnly}[os.Getenv(childEnv)]
	if child == nil {
		os.Exit(m.Run())
	}
	if err := child(os.Getenv(childDirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// childOf is a child that ends with the test.
func childOf(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+name, childDirEnv+"="+dir)
	c.Stderr = os.Stderr
	return c
}

// The child of TestKills makes transactions with the numbers 1, 2, 3 ... without end. Transaction n puts three records of group n % groups, with its
// number and the digest of a blob that it has put before. So it replaces the transaction that many numbers before, whose blob is needed no more.
const groups = 20

var parts = []string{"a", "b", "c"} //nolint:gochecknoglobals // a constant

func groupKey(n int, part string) string { return fmt.Sprintf("apps/%d/%s", n%groups, part) }

// blobOf is the content of the blob of a transaction: up to 40 KB.
func blobOf(n int) string { return strings.Repeat(strconv.Itoa(n)+" ", 1+n%10*1000) }

// valueOf is the value of the records of a transaction: up to 9 KB.
func valueOf(n int) string {
	return fmt.Sprintf("%d %s %s", n, store.Digest([]byte(blobOf(n))), strings.Repeat("x", n%7*1500))
}

func writeUntilKilled(dir string) error {
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	last, needed, err := readGroups(s)
	if err != nil {
		return err
	}
	if _, err := s.Blobs().Collect(func(digest string) bool { return needed[digest] }); err != nil {
		return err
	}
	for n := last + 1; ; n++ {
		if _, err := store.PutBlob(context.Background(), s.Blobs(), []byte(blobOf(n))); err != nil {
			return err
		}
		var x store.Txn
		for _, part := range parts {
			x.Then = append(x.Then, put(groupKey(n, part), valueOf(n)))
		}
		if _, err := s.Txn(context.Background(), x); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// readGroups gives the number of the last transaction, and the digests of the blobs that the records name. It is an error if a transaction is there in
// part, or lacks its blob.
func readGroups(s *Store) (last int, needed map[string]bool, err error) {
	needed = map[string]bool{}
	for group := range groups {
		numbers := map[int]bool{}
		for _, part := range parts {
			r, _, err := s.Get(context.Background(), groupKey(group, part))
			if err != nil {
				return 0, nil, err
			}
			text, _, _ := strings.Cut(string(r.Value), " ")
			n, _ := strconv.Atoi(text)
			if numbers[n] = true; n > 0 && string(r.Value) != valueOf(n) || n%groups != group && n > 0 {
				return 0, nil, fmt.Errorf("group %d has the record %q", group, text)
			}
			last = max(last, n)
		}
		if len(numbers) != 1 {
			return 0, nil, fmt.Errorf("group %d has records of the transactions %v", group, numbers)
		}
		for n := range numbers {
			if n == 0 {
				continue
			}
			digest := store.Digest([]byte(blobOf(n)))
			needed[digest] = true
			if _, err := store.ReadBlob(s.Blobs(), digest); err != nil {
				return 0, nil, fmt.Errorf("transaction %d: %w", n, err)
			}
		}
	}
	for n := max(1, last-groups+1); n <= last; n++ {
		if !needed[store.Digest([]byte(blobOf(n)))] {
			return 0, nil, fmt.Errorf("transaction %d of %d is lost", n, last)
		}
	}
	return last, needed, nil
}

// TestKills kills a process that writes the store, again and again. Transactions that were acknowledged are there, and each is there as a whole or not
// at all. HELVE_STORE_KILLS=1000 (make kill-store) is the long run.
func TestKills(t *testing.T) {
	t.Parallel()
	kills := 20
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d kills, seed %d", kills, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, total := "", 0
	for kill := range kills {
		if kill%10 == 0 { // the first start of a directory is killed too
			dir = t.TempDir()
		}
		before := lastOf(t, dir, kill%10 != 0)
		acknowledged := before
		child := childOf(t, "write", dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range random.IntN(8) {
			if lines.Scan() {
				acknowledged, _ = strconv.Atoi(lines.Text())
			}
		}
		<-time.After(time.Duration(random.IntN(4000)) * time.Microsecond) // any moment of its work
		child.Process.Kill()                                              //nolint:errcheck // Wait says how it ended
		for lines.Scan() {
			acknowledged, _ = strconv.Atoi(lines.Text())
		}
		if err := child.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Fatalf("kill %d, seed %d: the child ended by itself: %v", kill, seed, err)
		}
		if last := lastOf(t, dir, true); last != acknowledged && last != acknowledged+1 {
			t.Fatalf("kill %d, seed %d: transaction %d was acknowledged last, and %d is the last", kill, seed, acknowledged, last)
		}
		total += acknowledged - before
	}
	if t.Logf("%d transactions were acknowledged", total); total == 0 {
		t.Error("no transaction was acknowledged")
	}
}

// lastOf is the last transaction in a directory; 0 for a new one.
func lastOf(t *testing.T, dir string, there bool) int {
	t.Helper()
	if !there {
		return 0
	}
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	last, _, err := readGroups(s)
	if err != nil {
		t.Fatal(err)
	}
	return last
}
