package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/answer"
)

// dumpTime bounds the time of a dump: the node may be stuck, and its goroutines say then where.
const dumpTime = time.Second

// dumpAtQuit writes the calls and the newest events of the node, and a support bundle, when SIGQUIT comes, and then leaves the signal to the Go runtime, which writes
// the stacks of all goroutines and ends the process with status 2. For example, the stacks of a node that seems to hang show a method that waits for
// a lock, and the table above them the calls that wait for its slot. The function gives the signal back.
func dumpAtQuit(node admin.Node, to io.Writer) (stop func()) {
	quit, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(quit, syscall.SIGQUIT)
	go func() {
		select {
		case <-quit:
		case <-done:
			return
		}
		text := make(chan string, 1)
		go func() { text <- dump(node, time.Now()) }()
		late := time.NewTimer(dumpTime)
		defer late.Stop()
		select {
		case t := <-text:
			io.WriteString(to, t) //nolint:errcheck // the process ends
		case <-late.C:
			fmt.Fprintf(to, "the node gives no list of its calls within %s\n", dumpTime) //nolint:errcheck // the process ends
		}
		bundle(node, to)
		signal.Reset(syscall.SIGQUIT)
		syscall.Kill(os.Getpid(), syscall.SIGQUIT) //nolint:errcheck // this process is there
	}()
	return func() {
		signal.Stop(quit)
		close(done)
	}
}

// bundleTime bounds the time of a bundle, whose parts have bounds of their own.
const bundleTime = 5 * time.Second

// bundle writes a support bundle of the node into the directory of temporary files, for this user alone, and its name to w.
func bundle(node admin.Node, to io.Writer) {
	n, ok := node.(interface {
		Dump(ctx context.Context, w io.Writer) error
	})
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), bundleTime)
	defer cancel()
	done := make(chan error, 1)
	var name string
	f, err := os.CreateTemp("", fmt.Sprintf("helve-dump-%d-*.tar.gz", os.Getpid()))
	if err == nil {
		name = f.Name()
		go func() { done <- errors.Join(n.Dump(ctx, f), f.Close()) }()
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		fmt.Fprintf(to, "no whole support bundle was written (%s): %s\n\n", name, err) //nolint:errcheck // the process ends
		return
	}
	fmt.Fprintf(to, "support bundle: %s\n\n", name) //nolint:errcheck // as above
}

// dump is the calls and the newest events of a node.
func dump(node admin.Node, now time.Time) string {
	const most = 100
	var b strings.Builder
	b.WriteString("calls:\n")
	b.WriteString(answer.Calls(admin.CallList(node, helvetype.Object{}, most), now))
	b.WriteString("\nevents:\n")
	events, _ := node.Events().Since(node.Events().Last()-min(node.Events().Last(), most), most)
	for _, e := range events {
		b.WriteString(answer.Event(e) + "\n")
	}
	b.WriteString("\n")
	return b.String()
}
