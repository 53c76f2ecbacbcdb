package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/clients"
	"github.com/helve-serve/helve/internal/commands"
	"github.com/helve-serve/helve/internal/keeper"
	"github.com/helve-serve/helve/internal/kernel"
	"github.com/helve-serve/helve/internal/listen"
	"github.com/helve-serve/helve/internal/node"
	"github.com/helve-serve/helve/internal/store/disk"
	"github.com/helve-serve/helve/internal/worker"
)

// start is the command that makes a service of this machine: a keeper, and a node below it.
type start struct {
	run
	watchdog wait
	recover  string // an export that replaces the state

	adminGiven bool // the address of the admin interface is no default
}

// defaultWatchdog is how long a node may not answer its keeper.
const defaultWatchdog = 10 * time.Second

// ownFlags are the flags of `start` that are about the keeper; the node gets the others.
var ownFlags = []string{"http", "state-dir", "node-watchdog", "recover", "help"} //nolint:gochecknoglobals // a constant

func startCommand(apps []Application) *cobra.Command {
	s := &start{run: run{apps: apps}, watchdog: wait(defaultWatchdog)}
	what := "The node is empty at first. Programs deploy applications to it, which stay when the programs have ended."
	if len(apps) > 0 {
		what = "The applications of this executable run in the node's process. Other programs deploy further ones to it, which stay when the programs have ended."
	}
	c := &cobra.Command{
		Use: "start", Short: "Run a node as a service, with its state in a directory", Args: commands.NoArgs,
		Long: "Run a node as a service until it is interrupted. " + what + "\n\n" +
			"All that the node knows is in the state directory. If it is killed, it is started again at once: its sockets and worker processes belong to a\n" +
			"small process above it, the keeper, and go on. After a restart of the machine the same command brings all applications back.\n\n" +
			"SIGTERM and SIGINT have the node drain. A second one, a second later or more, cuts off what is left. With TLS, SIGHUP reads the files of\n" +
			"--tls-certificate again.",
		RunE: func(c *cobra.Command, _ []string) error { return s.execute(c) },
	}
	s.nodeFlags(c)
	s.format = formatAuto
	c.Flags().Lookup("log-format").DefValue = formatAuto
	s.adminTLS.flags(c)
	s.admin = adminDefault
	c.Flags().Lookup("admin").DefValue = adminDefault
	c.Flags().StringVar(&s.stateDir, "state-dir", "", "directory of the node's state, made if need be (default /var/lib/helve for root, else ~/.local/state/helve)")
	c.Flags().Var(&s.watchdog, "node-watchdog", "how long the node may not answer its keeper before it is ended and started again")
	c.Flags().StringVar(&s.recover, "recover", "", "start with the state in this file, an export of helve state export, in place of the state that is there")
	commands.NoVariable(c, "recover") // a service that is started again would go back to the file each time
	if len(apps) > 0 {
		s.isolationFlag(c)
	}
	return c
}

// execute opens what the keeper holds, and becomes the keeper: it returns only if that fails.
func (s *start) execute(c *cobra.Command) error {
	if err := kernel.Workers(); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	if s.format = formatOf(s.format, os.Stderr); s.format == formatJSON { // the node has the same
		if err := c.Flags().Set("log-format", formatJSON); err != nil {
			return err
		}
	}
	log, _ := s.logger()
	options, _, err := nodeOptions(s.options, log)
	if err != nil {
		return err
	}
	if err := clients.Limits(s.limits.limits()).Check(); err != nil {
		return limitError(err.Error())
	}
	if err := node.CheckMaxBody(int(s.maxBody)); err != nil {
		return usageError{fmt.Errorf("--max-body: %w", err)}
	}
	if _, err := s.adminTLS.load(log); err != nil {
		return err
	}
	dir, err := stateDirOf(c, s.stateDir)
	if err != nil {
		return err
	}
	if s.recover != "" { // before the directory is made
		if err := disk.CheckExport(s.recover); err != nil {
			return fmt.Errorf("--recover: %w", err)
		}
	}
	mark, err := worker.Claim(dir)
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	if s.recover != "" {
		done, err := disk.Recover(c.Context(), dir, s.recover)
		if err != nil {
			return fmt.Errorf("--recover: %w", err)
		}
		fmt.Println(recovered(done, s.recover))
	}
	state := keeper.State{
		Config: keeper.Config{
			Version: helve.Version, Name: os.Args[0], Args: nodeArguments(c), Env: os.Environ(), Dir: dir, Watchdog: time.Duration(s.watchdog),
			Verbose: s.verbose, JSONLog: s.format == formatJSON, Reloads: options.TLS != (listen.Files{}),
		},
		Family: familyName(), Since: time.Now(),
	}
	s.adminGiven = c.Flags().Changed("admin")
	held, err := s.open(c.Context(), &state, mark)
	if err != nil {
		return err
	}
	err = state.Exec("/proc/self/exe")
	runtime.KeepAlive(held)
	return err
}

// open opens the sockets, and gives the descriptors of them and of the mark to the state. The result keeps them open.
func (s *start) open(ctx context.Context, state *keeper.State, mark *os.File) (held []any, err error) {
	add := func(kind, address string, l net.Listener) error {
		of, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			return fmt.Errorf("%s has no descriptor", address)
		}
		f, err := of.File()
		if err != nil {
			return err
		}
		held = append(held, l, f)
		state.Listeners = append(state.Listeners, keeper.Listener{Kind: kind, Address: address, FD: int(f.Fd())})
		return nil
	}
	for _, address := range listen.Addresses(s.http) {
		l, err := listen.Open(address)
		if err == nil {
			err = add(keeper.HTTP, address, l)
		}
		if err != nil {
			return nil, fmt.Errorf("--http %s: %w%s", s.http, err, neighbours(ctx, err))
		}
	}
	if addr := strings.TrimPrefix(adminOf(s.admin), adminPrivate); addr != "" {
		l, err := admin.ListenTCP(addr, s.adminTLS.certificate != "")
		if err == nil {
			err = add(keeper.Admin, addr, l)
		}
		switch {
		case err != nil && !s.adminGiven:
			fmt.Fprintf(os.Stderr, "the admin interface is on its socket alone, for commands of this user: %s (give another address with --admin, or --admin private)\n", err)
		case err != nil:
			return nil, fmt.Errorf("--admin %s: %w%s", s.admin, err, neighbours(ctx, err))
		}
	}
	commands, err := keeper.ListenCommands(state.Config.Dir)
	if err != nil {
		return nil, err
	}
	f, err := commands.File()
	if err != nil {
		return nil, err
	}
	state.Socket, state.Mark = int(f.Fd()), int(mark.Fd())
	return append(held, commands, f, mark), nil
}

// neighbours are the nodes of this user that run, for the error of a port that is in use; "" for another error, and without nodes.
func neighbours(ctx context.Context, err error) string {
	sockets := worker.AdminSockets("")
	if !errors.Is(err, syscall.EADDRINUSE) || len(sockets) == 0 {
		return ""
	}
	return "; these nodes of this user run:\n" + commands.NodeTable(ctx, sockets)
}

// stateDirOf is the absolute state directory of a command with the flag --state-dir, whose value is dir. An empty value is a mistake: a script whose
// variable has no value, as in --state-dir="$DIR", would have another directory than it means.
func stateDirOf(c *cobra.Command, dir string) (string, error) {
	if dir == "" {
		f := c.Flags().Lookup("state-dir")
		if f.Changed {
			return "", usageError{errors.New("--state-dir is empty: give a directory, or leave the flag out")}
		}
		if _, ok := os.LookupEnv(variable(f)); ok {
			return "", usageError{fmt.Errorf("%s is empty: give a directory, or unset it", variable(f))}
		}
		dir = defaultStateDir(os.Geteuid(), os.Getenv)
	}
	return filepath.Abs(dir)
}

// defaultStateDir is the state directory of a user.
func defaultStateDir(uid int, environment func(string) string) string {
	if uid == 0 {
		return "/var/lib/helve"
	}
	if state := environment("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "helve")
	}
	return filepath.Join(environment("HOME"), ".local", "state", "helve")
}

// familyName begins the names of the families of a keeper's workers: no other keeper has it.
func familyName() string {
	var name [8]byte
	rand.Read(name[:]) //nolint:errcheck // never fails since Go 1.24
	return hex.EncodeToString(name[:])
}

// nodeArguments are the arguments of the command node that are the flags of `start`.
func nodeArguments(c *cobra.Command) (args []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(ownFlags, f.Name) {
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		args = append(args, "--"+f.Name+"="+value)
	})
	return args
}

// serveKeeper is the node of a keeper, on an inherited descriptor.
func (r *run) serveKeeper(ctx context.Context, fd int) error {
	kernel.NameProcess("helve-node")
	if err := r.check(); err != nil {
		return err
	}
	k, err := keeper.Connect(fd, helve.Version)
	if err != nil {
		return fmt.Errorf("--keeper-fd %d: %w", fd, err)
	}
	defer passSignals(k)()
	log, lines := r.logger()
	config, err := r.config(log, lines)
	if err != nil {
		return err
	}
	if err := k.AwaitTurn(k.Drain); err != nil {
		return err
	}
	certificate, err := r.adminTLS.load(log)
	if err != nil {
		return err
	}
	d := &node.Durable{Keeper: k, Private: r.admin != adminNone, Certificate: certificate}
	config.StateDir, config.HTTP, config.Admin = k.Welcome().Dir, "", ""
	ctx, stop := context.WithCancelCause(node.WithDurable(ctx, d))
	d.Left = func() { stop(errHandedOver) }
	defer context.AfterFunc(k.Drain, func() { stop(context.Cause(k.Drain)) })()
	undump := func() {}
	defer func() { undump() }()
	ctx = admin.WithMetrics(ctx, func(n admin.Node) http.Handler {
		undump = dumpAtQuit(n, os.Stderr)
		return nodeMetrics(n)
	})
	err = r.serveDurable(ctx, config, d, log)
	if k.Drain.Err() != nil && errors.Is(err, context.Cause(k.Drain)) { // before it was ready
		return nil
	}
	return err
}

// errHandedOver is the cause of the end of a node whose calls have ended after it handed over.
var errHandedOver = errors.New("the next node has taken over")

// serveDurable starts the applications of this executable beside the applications of the state directory, and serves until a drain.
func (r *run) serveDurable(ctx context.Context, config helve.Config, d *node.Durable, log *slog.Logger) error {
	var first helve.Build
	if len(r.apps) > 0 {
		first = r.apps[0].named
	}
	for _, a := range r.apps[min(1, len(r.apps)):] {
		d.Others = append(d.Others, a.named)
	}
	system, err := config.Run(ctx, first)
	if err != nil {
		return r.flagged(err)
	}
	failed, err := d.Accept(ctx)
	if err != nil {
		return errors.Join(err, system.Close(d.Keeper.Cut))
	}
	for _, url := range system.URLs() {
		fmt.Printf("the node of %s serves on %s\n", config.StateDir, url)
	}
	if len(system.URLs()) == 0 {
		fmt.Printf("the node of %s runs, without HTTP\n", config.StateDir)
	}
	sayDashboard(os.Stdout, system.AdminURL())
	err = serve(ctx, system, reloads{certificate: config.HTTPOptions.TLS.Certificate != "", signals: d.Keeper.Reload}, failed, log)
	return errors.Join(err, system.Close(d.Keeper.Cut))
}

// passSignals hands the signals of this process to the keeper. For example, an operator who sends SIGTERM to the node ends the service, and not a
// process that the keeper starts again.
func passSignals(k *keeper.Client) (stop func()) {
	signals, done := make(chan os.Signal, 8), make(chan struct{})
	take := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		take = append(take, syscall.SIGHUP)
	}
	signal.Notify(signals, take...)
	go func() {
		for {
			select {
			case s := <-signals:
				if number, ok := s.(syscall.Signal); ok {
					k.Signal(number)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
