// A server that speaks MongoDB's wire protocol, for the tests of Kiln's MongoDB back end: FerretDB with its SQLite
// handler. It is no MongoDB: it has one process, no journal to wait for, and keeps no history of retried writes.
//
// On standard output comes one line, the connection string, once connections are accepted; the log goes to standard
// error. SIGTERM and SIGINT end it with status 0.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/internal/clientconn"
	"github.com/FerretDB/FerretDB/internal/clientconn/connmetrics"
	"github.com/FerretDB/FerretDB/internal/handler/registry"
	"github.com/FerretDB/FerretDB/internal/util/password"
	"github.com/FerretDB/FerretDB/internal/util/state"
)

type options struct {
	listen     string
	state      string
	user       string
	password   string
	replicaSet string
	verbose    bool
}

func main() {
	options, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("mongodb-test-server", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "address and port; port 0 takes a free one")
	flags.StringVar(&o.state, "state", "", "directory of the SQLite files; made when it is missing")
	flags.StringVar(&o.user, "user", "", "ask for SCRAM; this user of the database admin is made in a new --state")
	flags.StringVar(&o.password, "password", "", "that user's password")
	flags.StringVar(&o.replicaSet, "replica-set", "", "say that this is the primary, and only member, of this set")
	flags.BoolVar(&o.verbose, "verbose", false, "log every connection")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() != 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.state == "" {
		return o, errors.New("--state is needed")
	}
	if (o.user == "") != (o.password == "") {
		return o, errors.New("--user and --password come together")
	}
	return o, nil
}

// serve puts together what FerretDB's own main does, without telemetry, tracing and the debug listener. The package
// ferretdb, made for embedding, does not offer authentication.
func serve(ctx context.Context, o options) error {
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))

	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return err
	}
	// FerretDB takes the directory as a URI and loses its way where a name needs escapes. A dot needs none.
	if err := os.Chdir(o.state); err != nil {
		return err
	}

	provider, err := state.NewProvider("")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := provider.Update(func(s *state.State) {
		s.DisableTelemetry()
		s.TelemetryLocked = true
	}); err != nil {
		return fmt.Errorf("state: %w", err)
	}

	metrics := connmetrics.NewListenerMetrics()
	handlerOptions := &registry.NewHandlerOpts{
		Logger:        logger,
		ConnMetrics:   metrics.ConnMetrics,
		StateProvider: provider,
		ReplSetName:   o.replicaSet,
		SQLiteURL:     "file:./",
		TestOpts: registry.TestOpts{
			CappedCleanupPercentage: 10,
			BatchSize:               100,
			EnableNewAuth:           o.user != "",
		},
	}
	if o.user != "" {
		handlerOptions.SetupDatabase = "admin"
		handlerOptions.SetupUsername = o.user
		handlerOptions.SetupPassword = password.WrapPassword(o.password)
		handlerOptions.SetupTimeout = 30 * time.Second
	}
	handler, closeBackend, err := registry.NewHandler("sqlite", handlerOptions)
	if closeBackend != nil {
		defer closeBackend()
	}
	if err != nil {
		return fmt.Errorf("handler: %w", err)
	}

	listener, err := clientconn.Listen(&clientconn.NewListenerOpts{
		TCP:     o.listen,
		Mode:    clientconn.NormalMode,
		Metrics: metrics,
		Handler: handler,
		Logger:  logger,
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	// A member of a replica set tells its clients where to find it, and the port is known only now. Nothing is accepted
	// before Run, so nobody else reads this yet.
	handler.TCPHost = listener.TCPAddr().String()

	// The kernel holds connections that come between this line and the first accept.
	fmt.Println(uri(listener.TCPAddr().String(), o))
	listener.Run(ctx)
	return nil
}

func uri(address string, o options) string {
	u := url.URL{Scheme: "mongodb", Host: address, Path: "/"}
	query := url.Values{}
	if o.user != "" {
		u.User = url.UserPassword(o.user, o.password)
		query.Set("authSource", "admin")
	}
	if o.replicaSet != "" {
		query.Set("replicaSet", o.replicaSet)
	}
	u.RawQuery = query.Encode()
	return u.String()
}
