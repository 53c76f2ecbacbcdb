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
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/host"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/proxy"
	"github.com/helve-serve/helve/internal/worker"
)

// warned is the flag of a node whose driver, `helve run` of Python, has looked at the variables already: each line of a warning is there once.
const warned = "warned"

// nodeCommand is the command that a driver or a keeper starts. The node of a driver is its child, and drains and ends when the driver's connection
// ends, for any reason. The node of a keeper has the applications of this executable: see [run.serveKeeper].
func nodeCommand(apps []Application) *cobra.Command {
	var driver, token, keeper int
	r := &run{apps: apps}
	c := &cobra.Command{
		Use: "node", Short: "Run a node for the driver or keeper on an inherited descriptor", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("keeper-fd") {
				return r.serveKeeper(c.Context(), keeper)
			}
			log, lines := r.logger()
			httpOptions, certificate, err := nodeOptions(r.options, log)
			if err != nil {
				return err
			}
			if err := clients.Limits(r.limits.limits()).Check(); err != nil {
				return limitError(err.Error())
			}
			if err := node.CheckMaxBody(int(r.maxBody)); err != nil {
				return usageError{fmt.Errorf("--max-body: %w", err)}
			}
			if err := r.check(); err != nil {
				return err
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
			var accessLog io.Writer
			if r.access != "" {
				accessLog, httpOptions.JSONLog = os.Stdout, r.access == "json"
			}
			n := node.New(node.Settings{
				Logger: log, Version: helve.Version, Output: lines, MaxBody: int(r.maxBody), ArenaSize: int64(r.arena), AccessLog: accessLog,
				HTTP: clients.Limits(r.limits.limits()), HTTPOptions: httpOptions, Certificate: certificate, Program: host.Program{Env: os.Environ()},
				Metrics: nodeMetrics, Tracing: r.tracing.settings(), LogMemory: r.logBudgets(),
			})
			if addr := adminOf(r.admin); addr != "" {
				if err := n.ServeAdmin(strings.TrimPrefix(addr, adminPrivate)); err != nil {
					return fmt.Errorf("--admin: %w", err)
				}
				sayDashboard(os.Stderr, n.AdminURL()) // stdout is that of the program
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
	c.Flags().IntVar(&keeper, "keeper-fd", -1, "descriptor of the keeper's socket")
	r.nodeFlags(c)
	r.adminTLS.flags(c)
	r.isolationFlag(c)
	commands.NoVariable(c, "driver-fd", "token-fd", "keeper-fd", warned, "http", "isolation", "worker-grace") // drivers and keepers have looked at the others
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
