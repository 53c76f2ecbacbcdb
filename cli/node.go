package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/worker"
)

// warned is the flag of a node whose driver, `helve run` of Python, has looked at the variables already: each line of a warning is there once.
const warned = "warned"

// nodeCommand is the command that a driver starts: a node that is the driver's child, and that drains and ends when the driver's
// connection ends, for any reason.
func nodeCommand() *cobra.Command {
	var driver, token int
	var verbose bool
	var maxBody size
	var arenaSize arena
	var adminFlag, access string
	var limits httpLimits
	var options httpOptions
	c := &cobra.Command{
		Use: "node", Short: "Run a node for the driver on an inherited descriptor", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			httpOptions, certificate, err := nodeOptions(options, logger(verbose))
			if err != nil {
				return err
			}
			if err := clients.Limits(limits.limits()).Check(); err != nil {
				return limitError(err.Error())
			}
			if err := node.CheckMaxBody(int(maxBody)); err != nil {
				return usageError{fmt.Errorf("--max-body: %w", err)}
			}
			if err := checkAdmin(adminFlag); err != nil {
				return usageError{fmt.Errorf("--admin %s: %w", adminFlag, err)}
			}
			if access != "" && access != "text" && access != "json" {
				return usageError{fmt.Errorf("--access-log=%s: must be text or json", access)}
			}
			nc, err := inherited(driver)
			if err != nil {
				return fmt.Errorf("--driver-fd %d: %w", driver, err)
			}
			var t [32]byte
			f := os.NewFile(uintptr(token), "token")
			_, err = io.ReadFull(f, t[:])
			f.Close()
			if err != nil {
				return fmt.Errorf("--token-fd %d: %w", token, err)
			}
			log := logger(verbose)
			var accessLog io.Writer
			if access != "" {
				accessLog, httpOptions.JSONLog = os.Stdout, access == "json"
			}
			n := node.New(node.Settings{
				Logger: log, Version: helve.Version, Output: os.Stderr, MaxBody: int(maxBody), ArenaSize: int64(arenaSize), AccessLog: accessLog,
				HTTP: clients.Limits(limits.limits()), HTTPOptions: httpOptions, Certificate: certificate, Program: host.Program{Env: os.Environ()},
				Metrics: nodeMetrics,
			})
			if addr := adminOf(adminFlag); addr != "" {
				if err := n.ServeAdmin(strings.TrimPrefix(addr, adminPrivate)); err != nil {
					return fmt.Errorf("--admin: %w", err)
				}
			}
			if err := n.ServeDrivers(); err != nil {
				log.Warn("no other program can attach to this node", "error", err)
			}
			// The driver acts on signals that both get: it may finish its work before it ends, and needs its node for that.
			defer dumpAtQuit(n, os.Stderr)()
			w := heed(false, true)
			defer w.stop()
			defer worker.ReapOrphans()()
			err = n.ServeDriver(nc, t)
			w.begin()
			if cerr := n.Close(w.cut); cerr != nil || hasLeft(err) { // the driver's end is how this ends
				return cerr
			}
			return err
		},
	}
	c.Flags().IntVar(&driver, "driver-fd", -1, "descriptor of the driver's socket")
	c.Flags().IntVar(&token, "token-fd", -1, "descriptor from which the token is read")
	c.Flags().Bool(warned, false, "the driver has warned of variables with a mistyped name")
	c.Flags().Var(&maxBody, "max-body", "largest value of a call between processes, in bytes or as 64MiB (default 256MiB)")
	c.Flags().Var(&arenaSize, "arena-size", "shared memory for the large values of an application's workers")
	c.Flags().StringVar(&adminFlag, "admin", adminPrivate, adminUsage)
	c.Flags().StringVar(&access, "access-log", "", "write a line per HTTP request")
	c.Flags().Lookup("access-log").NoOptDefVal = "text"
	noVariable(c, "driver-fd", "token-fd", warned)
	limits.flags(c)
	options.flags(c)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return c
}

// hasLeft says whether the error of a driver's connection is the end of the driver. A driver that ends while the node writes to it, or before it
// has read what the node wrote, resets the connection. For example, a script ends with a call that has just been answered.
func hasLeft(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// nodeOptions are the options of the flags, checked, and the certificate of their files; nil for none.
func nodeOptions(o httpOptions, log *slog.Logger) (proxy.Options, *listen.Certificate, error) {
	set, err := o.options()
	all := proxy.Options{
		RequestTimeout: set.RequestTimeout, RootPath: set.RootPath, TrustForwarded: set.TrustForwarded, DrainDelay: set.DrainDelay, TLS: listen.Files(set.TLS),
	}
	if err != nil {
		return all, nil, err
	}
	if err := all.Check(); err != nil {
		return all, nil, o.flagged(err.Error())
	}
	if set.TLS == (helve.TLS{}) {
		return all, nil, nil
	}
	certificate, err := listen.NewCertificate(all.TLS, log)
	if err != nil {
		return all, nil, o.flagged("TLS." + err.Error())
	}
	return all, certificate, nil
}

func inherited(fd int) (net.Conn, error) {
	if fd < 0 {
		return nil, errors.New("no descriptor: this command is started by the Python package")
	}
	f := os.NewFile(uintptr(fd), "driver")
	if f == nil {
		return nil, errors.New("not a descriptor")
	}
	defer f.Close() // FileConn has one of its own
	return net.FileConn(f)
}
