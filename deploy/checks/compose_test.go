package checks

import (
	"context"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	tracesv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/internal/testkit"
)

// readCompose reads compose.yaml as Docker Compose does, which checks it against its schema.
func readCompose(t *testing.T, file string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func mustReadCompose(t *testing.T) *types.Project {
	t.Helper()
	project, err := readCompose(t, composeFile)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeSchema(t *testing.T) {
	if err := mustReadCompose(t).CheckContainerNameUnicity(); err != nil {
		t.Error(err)
	}
	for name, wrong := range map[string]string{
		"unknown key":     "services: {a: {image: a, comand: [x]}}",
		"wrong type":      "services: {a: {image: [a]}}",
		"unknown service": "services: {a: {image: a, depends_on: [b]}}",
		"unknown volume":  `services: {a: {image: a, volumes: ["data:/data"]}}`,
	} {
		file := filepath.Join(t.TempDir(), "compose.yaml")
		write(t, file, []byte("name: wrong\n"+wrong+"\n"))
		if _, err := readCompose(t, file); err == nil {
			t.Errorf("%s: it is allowed", name)
		}
	}
}

// TestComposeIsSafe checks what keeps others from the company's plaintext, and its programs from the machine.
func TestComposeIsSafe(t *testing.T) {
	made := readImage(t)
	for name, service := range mustReadCompose(t).Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes its port %d at %q: other machines reach it", name, port.Target, port.HostIP)
			}
		}
		if service.Build == nil {
			continue
		}
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) ||
			!slices.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) || service.Privileged ||
			service.User != "" {
			t.Errorf("%s has rights that it doesn't need", name)
		}
		// A service of Acme keeps its database in its working directory, which must be a volume.
		kept := slices.ContainsFunc(service.Volumes, func(volume types.ServiceVolumeConfig) bool {
			return volume.Target == made.folder
		})
		if stored := service.Environment["TREATY_STORE"]; stored == nil && !kept {
			t.Errorf("%s would lose its database with its container: no volume is at %s", name, made.folder)
		}
	}
}

// TestComposeStarts starts what compose.yaml would start, as processes: the programs of the images, with their
// arguments, their variables and nothing else. A name with a port leads to a free port of this machine. A saga then
// runs over two of the services.
func TestComposeStarts(t *testing.T) {
	skipIfShort(t)
	network := newNetwork(t, mustReadCompose(t))
	programs := make(map[string]bool)
	for _, service := range network.project.Services {
		if service.Build != nil {
			programs[*service.Build.Args["PROGRAM"]] = true
			if got := programOf(service.Image); got != *service.Build.Args["PROGRAM"] {
				t.Errorf("the image %s holds %s", got, *service.Build.Args["PROGRAM"])
			}
		}
	}
	if len(programs) != 6 {
		t.Errorf("compose.yaml starts the programs %v, want all six of Acme", slices.Sorted(maps.Keys(programs)))
	}
	binaries := build(t, slices.Sorted(maps.Keys(programs))...)

	network.store = postgrestest.Database(t)
	traces := collect(t, network.at(t, "jaeger", "4317"))
	running := make(map[string]*process)
	for _, name := range network.project.ServiceNames() {
		service := network.project.Services[name]
		// PostgreSQL and Jaeger are programs of others.
		if service.Build == nil {
			continue
		}
		running[name] = start(t, network.launch(t, name, filepath.Join(binaries, programOf(service.Image))))
	}
	connections := make(map[string]*grpc.ClientConn)
	for name, process := range running {
		connections[name] = testkit.Dial(t, network.serves(t, name))
		process.serving(t, connections[name], "")
	}
	for name, service := range network.project.Services {
		for _, port := range service.Ports {
			if running[name] != nil && !network.listens(name, strconv.Itoa(int(port.Target))) {
				t.Errorf("%s publishes its port %d, at which nothing listens", name, port.Target)
			}
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	created, err := customerv1.NewCustomerServiceClient(connections["customer"]).CreateCustomer(ctx,
		&customerv1.CreateCustomerRequest{
			DisplayName: "Ada Lovelace", Email: "ada@example.com", Address: address("Oude Delft 1", "2611 AA", "Delft"),
		})
	if err != nil {
		t.Fatal(err)
	}
	for name := range running {
		if !strings.HasPrefix(name, "orchestrator-") {
			continue
		}
		agreed, err := customerv1.NewCustomerSagasClient(connections[name]).ChangeAddress(ctx,
			&customerv1.ChangeAddressSagaRequest{
				RequestId: name, Customer: created.GetCustomer(), Address: address("Rapenburg 70", "2311 EZ", "Leiden"),
			})
		if err != nil {
			t.Errorf("a saga at %s: %v", name, err)
		}
		t.Logf("%s: %v", name, agreed)
	}
	for name := range running {
		running[name].stop(t)
	}
	for _, name := range []string{"treaty-orchestrator", "customer", "identity", "credit", "card", "notification"} {
		if !traces.from(name) {
			t.Errorf("no span of %s has arrived, but of %v", name, traces.names)
		}
	}
}

// collector receives spans, as Jaeger does.
type collector struct {
	tracesv1.UnimplementedTraceServiceServer

	mu    sync.Mutex
	names map[string]bool
}

// collect receives spans at an address until the test ends.
func collect(t *testing.T, address string) *collector {
	t.Helper()
	c := &collector{names: make(map[string]bool)}
	server := grpc.NewServer()
	tracesv1.RegisterTraceServiceServer(server, c)
	testkit.ServeOn(t, server, address)
	return c
}

// Export implements the collector's service. It remembers which programs have sent spans.
func (c *collector) Export(
	_ context.Context, r *tracesv1.ExportTraceServiceRequest,
) (*tracesv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, spans := range r.GetResourceSpans() {
		for _, attribute := range spans.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				c.names[attribute.GetValue().GetStringValue()] = true
			}
		}
	}
	return &tracesv1.ExportTraceServiceResponse{}, nil
}

func (c *collector) from(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[name]
}

func address(line, postalCode, city string) *customerv1.Address {
	return &customerv1.Address{Lines: []string{line}, PostalCode: postalCode, City: city, Country: "NL"}
}

// network gives every port of every container an address of this machine.
type network struct {
	project   *types.Project
	names     map[string]string // the service that has a name, by its own name or an alias
	reference *regexp.Regexp
	addresses map[string]string // by service and port
	listening map[string]bool   // by service and port

	store string // the URL of a database that takes the place of compose's
}

func newNetwork(t *testing.T, project *types.Project) *network {
	t.Helper()
	n := &network{
		project: project, names: make(map[string]string), addresses: make(map[string]string),
		listening: make(map[string]bool),
	}
	for _, name := range project.ServiceNames() {
		n.names[name] = name
		for _, network := range project.Services[name].Networks {
			if network == nil {
				continue
			}
			for _, alias := range network.Aliases {
				if n.names[alias] == "" { // The first one that has it.
					n.names[alias] = name
				}
			}
		}
	}
	n.reference = regexp.MustCompile(`([a-z0-9.-]+):([0-9]{2,5})\b`)
	return n
}

// at returns the address of a container's port.
func (n *network) at(t *testing.T, service, port string) string {
	t.Helper()
	key := service + ":" + port
	if n.addresses[key] == "" {
		n.addresses[key] = testkit.UnusedAddress(t)
	}
	return n.addresses[key]
}

// here replaces each name with a port, as a container means it, by an address of this machine.
func (n *network) here(t *testing.T, service, text string) string {
	t.Helper()
	return n.reference.ReplaceAllStringFunc(text, func(reference string) string {
		host, port, _ := strings.Cut(reference, ":")
		if host == "0.0.0.0" {
			n.listening[service+":"+port] = true
			return n.at(t, service, port)
		}
		if n.names[host] == "" {
			t.Errorf("%s names %s, but nothing has this name", service, reference)
			return reference
		}
		return n.at(t, n.names[host], port)
	})
}

func (n *network) listens(service, port string) bool { return n.listening[service+":"+port] }

// serves returns the address at which a service listens.
func (n *network) serves(t *testing.T, service string) string {
	t.Helper()
	for key := range n.listening {
		if name, port, _ := strings.Cut(key, ":"); name == service {
			return n.at(t, service, port)
		}
	}
	t.Fatalf("%s listens nowhere", service)
	return ""
}

// launch says how to start a service.
func (n *network) launch(t *testing.T, name, program string) launch {
	t.Helper()
	service := n.project.Services[name]
	l := launch{name: name, program: program, dir: t.TempDir(), grace: 10 * time.Second}
	if service.StopGracePeriod != nil {
		l.grace = time.Duration(*service.StopGracePeriod)
	}
	for _, argument := range service.Command {
		l.args = append(l.args, n.here(t, name, argument))
	}
	for _, variable := range slices.Sorted(maps.Keys(service.Environment)) {
		value := *service.Environment[variable]
		if variable == "TREATY_STORE" {
			l.env = append(l.env, variable+"="+n.store)
			continue
		}
		l.env = append(l.env, variable+"="+n.here(t, name, value))
	}
	return l
}

// TestComposeReaches checks that each name with a port leads to a container that listens there.
func TestComposeReaches(t *testing.T) {
	project := mustReadCompose(t)
	n := newNetwork(t, project)
	// The ports of images that others make, unless their arguments say otherwise.
	n.listening["postgres:5432"] = true
	for _, name := range project.ServiceNames() {
		n.launch(t, name, name)
	}
	for key := range n.addresses {
		if service, port, _ := strings.Cut(key, ":"); !n.listens(service, port) {
			t.Errorf("something calls %s at the port %s, at which it doesn't listen", service, port)
		}
	}
}
