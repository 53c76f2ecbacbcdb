package ingress_test

import (
	"crypto/tls"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/helve-serve/helve/internal/e2e/fixture"
)

// TestHangupReadsTheCertificate: with TLS, SIGHUP has a command read the files of its certificate, and change an application of another executable
// too; it goes on after it.
func TestHangupReadsTheCertificate(t *testing.T) {
	t.Parallel()
	hello := fixture.Compile(t, "./examples/hello")
	for name, c := range map[string]struct {
		args  []string
		lines []string
	}{
		"own application":       {[]string{"run"}, []string{"new connections get the certificate that is there now"}},
		"of another executable": {[]string{"run", "exec:" + hello}, []string{"new connections get the certificate that is there now", "hello has changed to the executable that is there now"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := issue(t, dir, "first")
			cmd := exec.Command(hello, append(c.args, "--http", "127.0.0.1:0", "--tls-certificate", first.cert, "--tls-key", first.key)...)
			said, _ := fixture.Launch(t, cmd)
			line := said.Line(t, "hello serves on https://")
			second := issue(t, dir, "second")
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.lines {
				said.Line(t, want)
			}
			conn, err := tls.Dial("tcp", line[strings.Index(line, "https://")+len("https://"):], &tls.Config{RootCAs: second.pool})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			said.Ended()
			if s := cmd.ProcessState; !s.Success() {
				t.Errorf("%s\n%s", s, said.Text())
			}
		})
	}
}
