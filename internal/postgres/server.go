package postgres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// User is the name of the superuser of a server.
	User = "postgres"

	startTimeout = time.Minute
	pollInterval = 10 * time.Millisecond
	startTries   = 3
)

// Config says which server to start.
type Config struct {
	// Major is the wanted major version. 0 stands for any that is supported; see [Find].
	Major int

	// Settings are lines of postgresql.conf, e.g. "fsync": "off". What they don't name is as PostgreSQL has it, apart
	// from what a server on loopback needs. Values are quoted.
	Settings map[string]string
}

// Server is a PostgreSQL server on loopback. The folder of its data goes away with [Server.Close], or with the process
// that started it. Its methods are safe for concurrent use, but those that start and stop it wait for each other.
type Server struct {
	found    Programs
	programs Programs // those found, or copies that the user can reach
	settings map[string]string
	user     user
	dir      string
	port     int
	password string

	leash    *os.File
	released <-chan struct{}

	mu      sync.Mutex // for what follows
	process *process   // nil unless it was started and not stopped since
}

// process is a running postmaster.
type process struct {
	pid   int
	ended chan struct{}
}

// Start makes a database cluster in a temporary folder, starts its server and returns when that accepts connections. It
// doesn't end with ctx.
func Start(ctx context.Context, config Config) (*Server, error) {
	programs, err := Find(ctx, config.Major)
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return launch(ctx, programs, config.Settings, initialize)
}

// launch prepares a folder, fills it and starts its server.
func launch(ctx context.Context, programs Programs, settings map[string]string,
	fill func(context.Context, *Server) error,
) (_ *Server, err error) {
	s := &Server{found: programs, settings: settings, password: rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting PostgreSQL %d: %w", programs.Major, err), s.Close())
		}
	}()
	if s.user, err = ordinary(); err != nil {
		return nil, err
	}
	if s.dir, err = s.user.folder(); err != nil {
		return nil, err
	}
	if s.leash, s.released, err = watch(s.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if s.programs, err = s.user.reach(programs, s.dir); err != nil {
		return nil, err
	}
	if err := fill(ctx, s); err != nil {
		return nil, err
	}
	// Another process may take the free port before the server opens it.
	var problems []error
	for range startTries {
		if err := s.configure(ctx); err != nil {
			return nil, err
		}
		err := s.Start(ctx)
		if err == nil {
			return s, nil
		}
		problems = append(problems, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(problems...)
}

// folder makes a temporary folder of the user's, in a place that the user can reach.
func (u user) folder() (string, error) {
	var problems []error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		parent, err := filepath.EvalSymlinks(parent)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if !u.reaches(parent) {
			problems = append(problems, fmt.Errorf("%s can't be entered by everybody", parent))
			continue
		}
		dir, err := os.MkdirTemp(parent, "treaty-postgres-")
		if err == nil {
			err = u.own(dir)
		}
		if err == nil {
			return dir, nil
		}
		problems = append(problems, err)
	}
	return "", fmt.Errorf("finding a temporary folder; set TMPDIR to one that the user nobody can enter: %w",
		errors.Join(problems...))
}

// reaches reports whether the user can enter a folder.
func (u user) reaches(dir string) bool {
	if u.credential == nil {
		return true
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&everybody == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// reach returns programs that the user can run: those given, or copies of them in dir.
func (u user) reach(programs Programs, dir string) (Programs, error) {
	if u.reaches(programs.Dir) {
		return programs, nil
	}
	// A server finds its files from where it is.
	to := filepath.Join(dir, "programs")
	if err := os.CopyFS(to, os.DirFS(filepath.Dir(programs.Dir))); err != nil {
		return Programs{}, fmt.Errorf("copying %s, which the user nobody can't enter: %w", programs.Dir, err)
	}
	return Programs{Dir: filepath.Join(to, filepath.Base(programs.Dir)), Major: programs.Major}, nil
}

// initialize makes an empty database cluster.
func initialize(ctx context.Context, s *Server) error {
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.user.own(password); err != nil {
		return err
	}
	return s.run(ctx, "initdb", "--pgdata", s.data(), "--username", User, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
}

// configure finds a free port, and writes the settings.
func (s *Server) configure(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("finding a free port: %w", err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil || !ok {
		return fmt.Errorf("finding a free port: %w", err)
	}
	s.port = address.Port

	lines := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": s.dir,
		"wal_keep_size":           "512MB", // for standbys, which have no slots
	}
	maps.Copy(lines, s.settings)
	var file strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&file, "%s = '%s'\n", name, strings.ReplaceAll(lines[name], "'", "''"))
	}
	return s.write("postgresql.auto.conf", file.String())
}

// write writes a file into the folder of the data.
func (s *Server) write(name, content string) error {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return s.user.own(path)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Programs returns what the server runs, as its user can reach it.
func (s *Server) Programs() Programs { return s.programs }

// Dir returns the server's folder, which its user owns. It has the socket, and the data in the folder data.
func (s *Server) Dir() string { return s.dir }

// Address returns where the server listens, e.g. "127.0.0.1:5433". It stays the same while the server is stopped.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Password returns the password of [User].
func (s *Server) Password() string { return s.password }

// DSN returns a URL that connects to a database of the server as its superuser, e.g. "postgres". Others are made with
// CREATE DATABASE. With standbys, it names their addresses, too, and a driver looks for the one that takes writes.
func (s *Server) DSN(database string, standbys ...*Server) string {
	hosts, query := []string{s.Address()}, url.Values{"sslmode": {"disable"}}
	for _, standby := range standbys {
		hosts = append(hosts, standby.Address())
		query.Set("target_session_attrs", "read-write")
	}
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(User, s.password), Host: strings.Join(hosts, ","),
		Path: database, RawQuery: query.Encode(),
	}).String()
}

// Log returns what the server has logged.
func (s *Server) Log() string {
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	return cmp.Or(string(log), fmt.Sprint(err))
}

// Start starts the server again after Stop or Kill, on the same port, and returns when it accepts connections. It does
// nothing if the server runs.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // The server has its own.
	if err := s.user.own(log.Name()); err != nil {
		return err
	}
	//nolint:noctx // It outlives ctx.
	command := exec.Command(filepath.Join(s.programs.Dir, "postgres"), "-D", s.data())
	command.Dir, command.Stdout, command.Stderr = s.dir, log, log
	command.Env = s.environment()
	s.user.detach(command)
	if err := command.Start(); err != nil {
		return err
	}
	p := &process{pid: command.Process.Pid, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = command.Wait() // The log says more than the error.
	}()
	if err := s.awaitReady(ctx, p); err != nil {
		p.die()
		return fmt.Errorf("%w; its log:\n%s", err, s.Log())
	}
	s.process = p
	return nil
}

// awaitReady waits until the server's own file says that it accepts connections.
func (s *Server) awaitReady(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL isn't ready: %w", context.Cause(ctx))
		case <-p.ended:
			return errors.New("PostgreSQL ended at once")
		case <-ticker.C:
		}
		// Its first line is the process, its eighth the state.
		file, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
		lines := bytes.Split(file, []byte("\n"))
		if err != nil || len(lines) < 8 || string(lines[0]) != strconv.Itoa(p.pid) {
			continue
		}
		if bytes.HasPrefix(lines[7], []byte("ready")) {
			return nil
		}
	}
}

// Stop ends the server as "pg_ctl stop --mode fast" does: connections are closed, and everything is written. It does
// nothing if the server doesn't run.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	if err := send(s.process.pid, fast); err != nil {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	select {
	case <-s.process.ended:
	case <-ctx.Done():
		return fmt.Errorf("stopping PostgreSQL: %w", ctx.Err())
	}
	s.process = nil
	return nil
}

// Kill ends the server and its backends with SIGKILL, as a crash of the machine would, apart from what the system still
// writes. It does nothing if the server doesn't run.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.die()
		s.process = nil
	}
}

// Pause stops the server and its backends with SIGSTOP. Connections stay, and nobody answers them.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return errors.New("pausing PostgreSQL: it doesn't run")
	}
	return s.process.pause()
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return errors.New("resuming PostgreSQL: it doesn't run")
	}
	return s.process.resume()
}

// Close ends the server and deletes its data. It can be called several times, also after the server ended.
func (s *Server) Close() error {
	s.Kill()
	if s.leash == nil {
		return nil
	}
	err := s.leash.Close()
	<-s.released
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Command returns a command that runs as the server's user. A name without a folder is a program of this version of
// PostgreSQL; psql and its like connect to the server without further arguments.
func (s *Server) Command(ctx context.Context, program string, arguments ...string) (*exec.Cmd, error) {
	if !strings.ContainsRune(program, filepath.Separator) {
		path, err := s.programs.Path(program)
		if err != nil {
			return nil, err
		}
		program = path
	}
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir, command.Env = s.dir, s.environment()
	s.user.become(command)
	return command, nil
}

// environment is that of this process, without what it says about other servers.
func (s *Server) environment() []string {
	environment := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG")
	})
	environment = append(environment, "LC_ALL=C", "PGHOST=127.0.0.1", "PGUSER="+User, "PGPASSWORD="+s.password)
	if s.port != 0 {
		environment = append(environment, "PGPORT="+strconv.Itoa(s.port))
	}
	return environment
}

// run runs a program of PostgreSQL to its end.
func (s *Server) run(ctx context.Context, program string, arguments ...string) error {
	command, err := s.Command(ctx, program, arguments...)
	if err != nil {
		return err
	}
	if printed, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, printed)
	}
	return nil
}
