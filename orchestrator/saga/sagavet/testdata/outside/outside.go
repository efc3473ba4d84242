// Package outside has sagas that use what differs in a replay, or what isn't theirs.
package outside

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func clock(ctx saga.Context, deadline time.Time) (time.Duration, *timestamppb.Timestamp) {
	began := time.Now()         // want `time\.Now gives another time in each replay: use saga\.Now\(ctx\) \(clock\)`
	time.Sleep(time.Second)     // want `time\.Sleep blocks the orchestrator: use saga\.Sleep\(ctx, d\) \(clock\)`
	<-time.After(time.Second)   // want `time\.After waits in memory.*\(clock\)` `receiving from a channel.*\(channel\)`
	_ = time.Until(deadline)    // want `time\.Until .*\(clock\)`
	read := time.Now            // want `time\.Now .*\(clock\)`
	_ = timestamppb.Now()       // want `timestamppb\.Now .*use timestamppb\.New\(saga\.Now\(ctx\)\) \(clock\)`
	return time.Since(read()) + // want `time\.Since .*\(clock\)`
		saga.Now(ctx).Sub(began), timestamppb.New(saga.Now(ctx))
}

func limited(_ saga.Context) {
	_, stop := context.WithTimeout(context.Background(), time.Second) // want `context\.WithTimeout limits.*saga\.Within \(clock\)`
	defer stop()
}

func random(ctx saga.Context) string {
	if mathrand.IntN(2) == 0 { // want `rand\.IntN gives another value in each replay: use saga\.Rand\(ctx\) or saga\.NewID\(ctx\) \(random\)`
		return uuid.NewString() // want `uuid\.NewString .*\(random\)`
	}
	secret := make([]byte, 8)
	_, _ = rand.Read(secret) // want `rand\.Read .*\(random\)`
	_ = rand.Reader          // want `rand\.Reader .*\(random\)`
	seeded := mathrand.New(mathrand.NewPCG(1, 2))
	return fmt.Sprint(seeded.IntN(6), saga.Rand(ctx).IntN(6), saga.NewID(ctx), uuid.NewSHA1(uuid.NameSpaceURL, nil))
}

func goroutine(ctx saga.Context, work func()) {
	go work() // want `a go statement runs code on another goroutine.*saga\.All or saga\.Each \(goroutine\)`
	saga.Sleep(ctx, 1)
	func() {
		go func() { saga.Sleep(ctx, 1) }() // want `a go statement .*\(goroutine\)`
	}()
	var group sync.WaitGroup
	group.Go(work)                                // want `sync\.WaitGroup\.Go .*\(sync\)`
	group.Wait()                                  // want `sync\.WaitGroup\.Wait .*\(sync\)`
	context.AfterFunc(context.Background(), work) // want `context\.AfterFunc .*\(goroutine\)`
}

func channels(_ saga.Context, done chan int) {
	results := make(chan int, 1) // want `making a channel may block.*\(channel\)`
	results <- 1                 // want `sending on a channel .*\(channel\)`
	for range results {          // want `ranging over a channel .*\(channel\)`
	}
	select { // want `select may block.*\(channel\)`
	case <-done: // want `receiving from a channel .*\(channel\)`
	default:
	}
	close(results) // want `close may block.*\(channel\)`
}

func locks(_ saga.Context) {
	var mutex sync.Mutex
	mutex.Lock()         // want `sync\.Mutex\.Lock may block.*branches may share variables \(sync\)`
	defer mutex.Unlock() // want `sync\.Mutex\.Unlock .*\(sync\)`
	var count atomic.Int64
	count.Add(1) // want `atomic\.Int64\.Add .*\(sync\)`
	var once sync.Once
	once.Do(func() {}) // want `sync\.Once\.Do .*\(sync\)`
}

func network(_ saga.Context, connection *grpc.ClientConn, db *sql.DB) error {
	if _, err := http.Get("http://example.com"); err != nil { // want `http\.Get talks to another system.*a command or a query \(network\)`
		return err
	}
	if _, err := net.Dial("tcp", "127.0.0.1:80"); err != nil { // want `net\.Dial .*\(network\)`
		return err
	}
	client := customerv1.NewCustomerServiceClient(connection)
	_, err := client.GetCustomer(context.Background(), nil) // want `CustomerServiceClient\.GetCustomer calls another service directly.*the call is a command \(network\)`
	_ = db.QueryRow("SELECT 1")                             // want `sql\.DB\.QueryRow .*\(network\)`
	_ = http.StatusText(len(net.ParseIP("::1")))
	return err
}

func files(_ saga.Context) error {
	if _, err := os.ReadFile("limits.json"); err != nil { // want `os\.ReadFile uses files.*\(file\)`
		return err
	}
	if _, err := filepath.Glob("*.json"); err != nil { // want `filepath\.Glob .*\(file\)`
		return err
	}
	_, err := fmt.Fprintln(os.Stderr, filepath.Join("a", "b")) // want `os\.Stderr .*\(file\)`
	return err
}

func environment(_ saga.Context) string {
	if region, ok := os.LookupEnv("REGION"); ok { // want `os\.LookupEnv is another value elsewhere or after a restart.*\(environment\)`
		return region
	}
	name, _ := os.Hostname()                                 // want `os\.Hostname .*\(environment\)`
	return name + fmt.Sprint(len(os.Args), runtime.NumCPU()) // want `os\.Args .*\(environment\)` `runtime\.NumCPU .*\(environment\)`
}

func process(_ saga.Context) {
	_ = exec.Command("true").Run() // want `exec\.Command acts on the process.*\(process\)` `exec\.Cmd\.Run .*\(process\)`
	runtime.Gosched()              // want `runtime\.Gosched .*\(process\)`
	os.Exit(1)                     // want `os\.Exit .*return an error \(process\)`
}

func logs(ctx saga.Context) {
	log.Println("here") // want `log\.Println repeats its line in each replay: use saga\.Logger\(ctx\) \(log\)`
	slog.Info("here")   // want `slog\.Info .*\(log\)`
	fmt.Println("here") // want `fmt\.Println .*\(log\)`
	println("here")     // want `println .*\(log\)`
	saga.Logger(ctx).Info("here", slog.String("at", fmt.Sprintf("%d", 1)))
}

// unused takes no Context, and no saga calls it.
func unused() time.Time { return time.Now() }
