package worker

import (
	"os"
	"os/signal"
	"syscall"
)

// Shield keeps signals that are sent to all processes of a service (systemd does, and terminals) from ending a worker, which goes on while
// its node drains and is ended by it. They arrive on the channel, for a worker that has no node any more. A write to a pipe that
// nobody reads is an error of that write, and nothing else. What code of the user's asks for with package signal it gets as well.
//
// They are taken and not ignored: an ignored signal is ignored by the programs too that the worker starts.
func Shield() <-chan os.Signal {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(ends, syscall.SIGHUP)
	}
	return ends
}
