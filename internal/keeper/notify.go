package keeper

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier tells the service manager of the keeper's state, in the protocol of sd_notify(3): lines such as READY=1 in a datagram to the socket
// in NOTIFY_SOCKET. Without such a socket it does nothing.
type notifier struct {
	socket   string
	watchdog time.Duration // WATCHDOG=1 is due in each; 0 for none
}

func newNotifier(env []string) notifier {
	n := notifier{socket: variable(env, "NOTIFY_SOCKET")}
	if pid := variable(env, "WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		us, _ := strconv.ParseInt(variable(env, "WATCHDOG_USEC"), 10, 64) //nolint:errcheck // 0 is none
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// sendTime bounds the wait for a service manager that does not read.
const sendTime = 100 * time.Millisecond

// send sends lines. An error has no reader: there is no other way to tell the service manager of it.
func (n notifier) send(lines string) {
	if n.socket == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(sendTime)) //nolint:errcheck // it was opened
	c.Write([]byte(lines))                       //nolint:errcheck // see above
}

// feedWatchdog tells the service manager that the keeper lives, as often as that wants to hear it. The main thread must answer for that, and the
// lock of the keeper must be free.
func (k *Keeper) feedWatchdog() {
	if k.notify.socket == "" || k.notify.watchdog <= 0 {
		return
	}
	for range time.Tick(k.notify.watchdog / 2) {
		k.onMain(func() {})
		k.mu.Lock()
		k.mu.Unlock() //nolint:staticcheck // it was free
		k.notify.send("WATCHDOG=1")
	}
}

// variable is a variable of an environment, the last of its name.
func variable(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// without is an environment without some variables.
func without(env []string, names ...string) []string {
	var all []string
next:
	for _, e := range env {
		for _, name := range names {
			if strings.HasPrefix(e, name+"=") {
				continue next
			}
		}
		all = append(all, e)
	}
	return all
}
