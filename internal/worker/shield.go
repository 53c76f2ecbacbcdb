package worker

import (
	"os"
	"os/signal"
	"syscall"
)

// Shield keeps signals to all processes of a service from ending a worker. Systemd and terminals send such signals;
// the worker goes on while its node drains, and the node ends it. The signals arrive on the channel, for a worker
// that has no node any more. User code that asks for the signals with package signal gets them as well. A write to a
// pipe without a reader becomes an error of that write, and does not end the process.
//
// The signals are received and not ignored, because programs that the worker starts would inherit an ignored signal.
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
