package dispatch

import (
	"maps"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// route is where the calls of a method go.
type route struct {
	// path is the method as gRPC expects it, with a leading slash.
	path string

	participant *participant
}

// TakingPart returns the names of the participants that take part in the broadcasts of a service, sorted. The
// configuration says who does; nobody is asked.
func (d *Dispatcher) TakingPart(service string) []string { return d.broadcasts[service] }

// find returns the route to a destination. It returns false when no participant is configured for it.
func (d *Dispatcher) find(to engine.Destination) (route, bool) {
	if to.Participant == "" {
		return d.route(to.Method)
	}
	// A broadcast names its participant, which needn't be configured for the method's service. The name is the
	// participant's first service when the saga chose it. Any of its services leads to it, since their order may have
	// changed since.
	p, ok := d.services[to.Participant]
	return route{path: "/" + to.Method, participant: p}, ok
}

// route returns the route of a method to the participant that is configured for its service.
func (d *Dispatcher) route(method string) (route, bool) {
	routes := d.routes.Load()
	if r, ok := (*routes)[method]; ok {
		return r, true
	}
	service, _, _ := strings.Cut(method, "/")
	p, ok := d.services[service]
	if !ok {
		return route{}, false
	}
	r := route{path: "/" + method, participant: p}
	for {
		extended := make(map[string]route, len(*routes)+1)
		maps.Copy(extended, *routes)
		extended[method] = r
		if d.routes.CompareAndSwap(routes, &extended) {
			return r, true
		}
		routes = d.routes.Load()
	}
}
