package postgres

import (
	"context"
	"fmt"
	"maps"
	"net/url"
)

// Standby copies the server, starts the copy as a standby that streams what the server writes, and returns when it
// accepts connections that read. Its name is what synchronous_standby_names of the server calls it. It has the settings
// that the server was started with, except that one, and those that are given here. The server must not have written
// more than 512 MB since a standby was cut off.
//
// Without pg_basebackup, which npm's package lacks, the server is stopped while it is copied.
func (s *Server) Standby(ctx context.Context, name string, settings map[string]string) (*Server, error) {
	all := maps.Clone(s.settings)
	if all == nil {
		all = make(map[string]string)
	}
	delete(all, "synchronous_standby_names")
	all["cluster_name"] = name
	all["primary_conninfo"] = fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s application_name=%s",
		s.port, User, s.password, name)
	maps.Copy(all, settings)
	return launch(ctx, s.found, all, func(ctx context.Context, standby *Server) error {
		standby.password = s.password // The copy has the users of the server.
		copied := s.copyStopped
		if _, err := s.programs.Path("pg_basebackup"); err == nil {
			copied = s.copyRunning
		}
		if err := copied(ctx, standby); err != nil {
			return fmt.Errorf("copying the server: %w", err)
		}
		return standby.write("standby.signal", "")
	})
}

func (s *Server) copyRunning(ctx context.Context, standby *Server) error {
	source := &url.URL{Scheme: "postgres", User: url.UserPassword(User, s.password), Host: s.Address()}
	return standby.run(ctx, "pg_basebackup", "--dbname", source.String(), "--pgdata", standby.data(),
		"--checkpoint", "fast", "--wal-method", "stream", "--no-sync")
}

func (s *Server) copyStopped(ctx context.Context, standby *Server) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	if err := standby.run(ctx, "/bin/cp", "-R", "-p", s.data(), standby.data()); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Promote makes a standby take writes, and returns when it does.
func (s *Server) Promote(ctx context.Context) error {
	return s.run(ctx, "pg_ctl", "promote", "--pgdata", s.data(), "--wait")
}
