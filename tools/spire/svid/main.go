// Svid keeps a workload's SVID in files, for programs that read their certificates from files. It gets the SVID from
// the SPIFFE Workload API, and again whenever it is renewed, until it is stopped.
//
//	svid --socket unix:///run/spire/agent.sock --dir /run/acme/card
//
// It writes svid.pem, svid.key and bundle.pem, each in one step, readable by their owner only. It prints a line
// whenever it has written them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	socket := flag.String("socket", "", "`address` of the Workload API, unix:///PATH")
	dir := flag.String("dir", ".", "`directory` of the files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := workloadapi.WatchX509Context(ctx, files{dir: *dir}, workloadapi.WithAddr(*socket))
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "svid:", err)
		os.Exit(1)
	}
}

// files writes what the Workload API says.
type files struct{ dir string }

// OnX509ContextUpdate writes the first SVID and the bundle of its trust domain.
func (f files) OnX509ContextUpdate(now *workloadapi.X509Context) {
	svid := now.DefaultSVID()
	if err := f.write(now); err != nil {
		fmt.Fprintf(os.Stderr, "svid: writing %s: %v\n", svid.ID, err)
		return
	}
	fmt.Println("wrote", svid.ID, svid.Certificates[0].SerialNumber, "until", svid.Certificates[0].NotAfter)
}

// OnX509ContextWatchError reports that the Workload API has no SVID. The watch goes on.
func (files) OnX509ContextWatchError(err error) { fmt.Fprintln(os.Stderr, "svid: watching:", err) }

func (f files) write(now *workloadapi.X509Context) error {
	svid := now.DefaultSVID()
	bundle, err := now.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	authorities, err := bundle.Marshal()
	if err != nil {
		return err
	}
	certificate, key, err := svid.Marshal()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"bundle.pem": authorities, "svid.key": key, "svid.pem": certificate,
	} {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
