package checks

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
)

// The published schemas of the oldest version of Kubernetes that the manifest is for.
const (
	schemaModule  = "sigs.k8s.io/kubectl-validate@v0.0.4"
	schemaSum     = "h1:tGKuv0awYHn11Cb6KPsZKxUmHgavF46K3NvVH0Nse9U="
	schemaVersion = "1.30"
)

// cluster is what the manifests declare.
type cluster struct {
	namespace  corev1.Namespace
	account    corev1.ServiceAccount
	config     corev1.ConfigMap
	service    corev1.Service
	deployment appsv1.Deployment
	budget     policyv1.PodDisruptionBudget
	secrets    map[string]corev1.Secret
}

func (c *cluster) pod() *corev1.PodSpec { return &c.deployment.Spec.Template.Spec }

func (c *cluster) container(t *testing.T) *corev1.Container {
	t.Helper()
	if all := c.pod().Containers; len(all) != 1 {
		t.Fatalf("%d containers, want 1", len(all))
	}
	return &c.pod().Containers[0]
}

// readCluster decodes the manifests with Kubernetes' own types. A field that they don't have is an error, and so is one
// that is there twice.
func readCluster(t *testing.T) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, scheme, scheme,
		kubejson.SerializerOptions{Yaml: true, Strict: true})
	c := &cluster{secrets: make(map[string]corev1.Secret)}
	for _, document := range slices.Concat(documents(t, kubernetesFile), documents(t, secretsFile)) {
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		switch object := object.(type) {
		case *corev1.Namespace:
			c.namespace = *object
		case *corev1.ServiceAccount:
			c.account = *object
		case *corev1.ConfigMap:
			c.config = *object
		case *corev1.Service:
			c.service = *object
		case *corev1.Secret:
			c.secrets[object.Name] = *object
		case *appsv1.Deployment:
			c.deployment = *object
		case *policyv1.PodDisruptionBudget:
			c.budget = *object
		default:
			t.Fatalf("the test doesn't know %s", kind)
		}
	}
	return c
}

// TestKubernetesSchema checks the manifests against the schemas that Kubernetes publishes, which name required fields
// and formats.
func TestKubernetesSchema(t *testing.T) {
	schemas := newSchemas(t)
	for _, document := range slices.Concat(documents(t, kubernetesFile), documents(t, secretsFile)) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		t.Run(kind.Kind, func(t *testing.T) {
			compiled := schemas.of(t, kind.GroupVersionKind())
			if err := validate(t, compiled, document); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("finds", func(t *testing.T) {
		deployment := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
		for _, wrong := range []string{
			"spec: {selector: {}}",
			"spec: {selector: {}, template: {spec: {containers: [{image: acme-sagas}]}}}",
			"spec: {replicas: three, selector: {}, template: {}}",
		} {
			if err := validate(t, schemas.of(t, deployment), []byte(wrong)); err == nil {
				t.Errorf("the schema allows %s", wrong)
			}
		}
	})
}

// schemas reads the schemas of a version of Kubernetes.
type schemas struct {
	dir      string
	compiler *jsonschema.Compiler
}

// newSchemas gets the schemas by Go's module proxy: kubectl-validate carries them. Nothing of its code is compiled.
func newSchemas(t *testing.T) *schemas {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", schemaModule).Output()
	if err != nil {
		t.Fatalf("getting the schemas of Kubernetes, which needs a module proxy once: %v\n%s", err, out)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != schemaSum {
		t.Fatalf("%s has the sum %s, want %s", schemaModule, module.Sum, schemaSum)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4) // OpenAPI 3.0 is a subset of it, with additions of its own.
	return &schemas{
		dir: filepath.Join(module.Dir, "pkg", "openapiclient", "builtins", schemaVersion), compiler: compiler,
	}
}

// of returns the schema of a kind.
func (s *schemas) of(t *testing.T, kind schema.GroupVersionKind) *jsonschema.Schema {
	t.Helper()
	file := filepath.Join(s.dir, "apis", kind.Group, kind.Version+".json")
	group := kind.Group
	if group == "" {
		file, group = filepath.Join(s.dir, "api", kind.Version+".json"), "core"
	}
	name := strings.Join([]string{"io.k8s.api", group, kind.Version, kind.Kind}, ".")
	compiled, err := s.compiler.Compile("file://" + filepath.ToSlash(file) + "#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func validate(t *testing.T, compiled *jsonschema.Schema, document []byte) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(document)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(value)
}

// TestKubernetesFits checks that what the manifests name exists, by the name and in the form in which they name it.
func TestKubernetesFits(t *testing.T) {
	c := readCluster(t)
	container := c.container(t)

	pods := labels.Set(c.deployment.Spec.Template.Labels)
	for what, selector := range map[string]*metav1.LabelSelector{
		"the Deployment":          c.deployment.Spec.Selector,
		"the PodDisruptionBudget": c.budget.Spec.Selector,
		"the Service":             {MatchLabels: c.service.Spec.Selector},
		"the spread":              c.pod().TopologySpreadConstraints[0].LabelSelector,
	} {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Empty() || !parsed.Matches(pods) {
			t.Errorf("%s selects %s, and the pods have the labels %s", what, parsed, pods)
		}
	}
	for _, object := range []metav1.ObjectMeta{
		c.account.ObjectMeta, c.config.ObjectMeta, c.service.ObjectMeta, c.deployment.ObjectMeta, c.budget.ObjectMeta,
		c.secrets["acme-sagas-store"].ObjectMeta, c.secrets["acme-sagas-tls"].ObjectMeta,
	} {
		if object.Namespace != c.namespace.Name {
			t.Errorf("%q is in the namespace %q, want %q", object.Name, object.Namespace, c.namespace.Name)
		}
	}
	if c.pod().ServiceAccountName != c.account.Name {
		t.Errorf("the pods run as %q, want %q", c.pod().ServiceAccountName, c.account.Name)
	}

	ports := make(map[string]int32)
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, port := range c.service.Spec.Ports {
		if target := port.TargetPort.String(); ports[target] == 0 {
			t.Errorf("the Service's port %s leads to %q, which the container hasn't", port.Name, target)
		}
	}
	for name, probe := range map[string]*corev1.Probe{
		"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe,
	} {
		if probe == nil || probe.GRPC == nil || probe.GRPC.Port != ports["health"] {
			t.Errorf("the %s probe is %v, want one of gRPC at the port %d", name, probe, ports["health"])
			continue
		}
		service := ""
		if probe.GRPC.Service != nil {
			service = *probe.GRPC.Service
		}
		// An instance that isn't ready must not be restarted for it.
		if want := map[string]string{"readiness": ""}; name != "readiness" && service != "live" ||
			name == "readiness" && service != want[name] {
			t.Errorf("the %s probe asks for the service %q", name, service)
		}
	}

	for _, variable := range container.Env {
		if variable.ValueFrom == nil || variable.ValueFrom.SecretKeyRef == nil {
			continue
		}
		ref := variable.ValueFrom.SecretKeyRef
		if _, found := c.secrets[ref.Name].StringData[ref.Key]; !found {
			t.Errorf("%s comes from the key %q of the Secret %q, which isn't in the example", variable.Name, ref.Key,
				ref.Name)
		}
	}
	for _, volume := range c.pod().Volumes {
		if mounted := slices.ContainsFunc(container.VolumeMounts, func(mount corev1.VolumeMount) bool {
			return mount.Name == volume.Name
		}); !mounted {
			t.Errorf("the volume %q isn't mounted", volume.Name)
		}
	}
	if len(filesOf(t, c)) == 0 {
		t.Error("the container has no files")
	}
	if *c.deployment.Spec.Replicas < 2 || c.budget.Spec.MaxUnavailable.IntValue() >= int(*c.deployment.Spec.Replicas) {
		t.Errorf("%d replicas, of which %s may be away: want one that stays", *c.deployment.Spec.Replicas,
			c.budget.Spec.MaxUnavailable)
	}
}

// filesOf returns the files that the volumes put into the container, by their paths.
func filesOf(t *testing.T, c *cluster) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, volume := range c.pod().Volumes {
		content := c.config.Data
		switch {
		case volume.ConfigMap != nil && volume.ConfigMap.Name == c.config.Name:
		case volume.Secret != nil && c.secrets[volume.Secret.SecretName].StringData != nil:
			content = c.secrets[volume.Secret.SecretName].StringData
		default:
			t.Errorf("the volume %q names nothing that is declared", volume.Name)
		}
		for _, mount := range c.container(t).VolumeMounts {
			if mount.Name == volume.Name {
				for name, text := range content {
					files[mount.MountPath+"/"+name] = text
				}
			}
		}
	}
	return files
}

// TestKubernetesPodSecurity checks that a namespace that enforces the strictest of Kubernetes' standards admits the
// pods, and that this one enforces it.
func TestKubernetesPodSecurity(t *testing.T) {
	c := readCluster(t)
	if level := c.namespace.Labels[api.EnforceLevelLabel]; level != string(api.LevelRestricted) {
		t.Errorf("the namespace enforces %q, want %q", level, api.LevelRestricted)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	evaluate := func(pod *corev1.PodSpec) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(
			evaluator.EvaluatePod(level, &c.deployment.Spec.Template.ObjectMeta, pod))
	}
	if verdict := evaluate(c.pod()); !verdict.Allowed {
		t.Errorf("the pods aren't admitted: %s", verdict.ForbiddenDetail())
	}
	loose := c.pod().DeepCopy()
	loose.Containers[0].SecurityContext = nil
	if verdict := evaluate(loose); verdict.Allowed {
		t.Error("pods that may gain privileges are admitted, too: the check checks nothing")
	}
	if context := c.container(t).SecurityContext; context == nil || context.ReadOnlyRootFilesystem == nil ||
		!*context.ReadOnlyRootFilesystem {
		t.Error("the container's files can be changed")
	}
	if user := c.pod().SecurityContext.RunAsUser; user == nil || strconv.FormatInt(*user, 10) != readImage(t).user {
		t.Errorf("the pods run as the user %v, want that of the image, %s", user, readImage(t).user)
	}
}

// TestKubernetesStarts starts an instance as the manifest does: the program of the image, with its arguments, its
// variables and nothing else, and the files of its volumes. Certificates are made for it, and the store is replaced.
func TestKubernetesStarts(t *testing.T) {
	skipIfShort(t)
	c := readCluster(t)
	container := c.container(t)
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	own := issue(t, authority, "acme-sagas")
	issued := map[string]string{
		"tls.crt": string(own.CertPEM), "tls.key": string(own.KeyPEM), "ca.crt": string(authority.PEM()),
	}

	// Each port is a free one here, and each file is in a folder of the test.
	var replaced []string
	addresses := make(map[string]string)
	for _, port := range container.Ports {
		addresses[port.Name] = testkit.UnusedAddress(t)
		_, free, err := net.SplitHostPort(addresses[port.Name])
		if err != nil {
			t.Fatal(err)
		}
		replaced = append(replaced, ":"+strconv.Itoa(int(port.ContainerPort)), ":"+free)
	}
	for _, mount := range container.VolumeMounts {
		replaced = append(replaced, mount.MountPath, filepath.Join(dir, mount.MountPath))
	}
	here := strings.NewReplacer(replaced...)
	for path, text := range filesOf(t, c) {
		if made, found := issued[filepath.Base(path)]; found {
			text = made
		}
		write(t, filepath.Join(dir, path), []byte(here.Replace(text)))
	}
	fields := map[string]string{"status.podIP": "127.0.0.1", "metadata.name": "acme-sagas-0"}
	var variables, args, earlier []string
	for _, variable := range container.Env {
		value := here.Replace(strings.NewReplacer(earlier...).Replace(variable.Value))
		switch {
		case variable.Name == "TREATY_STORE":
			value = filepath.Join(dir, "treaty.db")
		case variable.ValueFrom != nil:
			if value = fields[variable.ValueFrom.FieldRef.FieldPath]; value == "" {
				t.Errorf("%s comes from %v, which the test doesn't know", variable.Name, variable.ValueFrom)
			}
		case strings.Contains(value, "$("):
			t.Errorf("%s is %q: no variable before it has this name", variable.Name, value)
		}
		earlier = append(earlier, "$("+variable.Name+")", value)
		variables = append(variables, variable.Name+"="+value)
	}
	for _, arg := range container.Args {
		args = append(args, here.Replace(arg))
	}
	program := programOf(container.Image)
	grace := *c.pod().TerminationGracePeriodSeconds - container.Lifecycle.PreStop.Sleep.Seconds
	instance := start(t, launch{
		name: program, program: filepath.Join(build(t, program), program), dir: dir, args: args, env: variables,
		grace: time.Duration(grace) * time.Second,
	})

	health := testkit.Dial(t, addresses["health"])
	instance.serving(t, health, *container.LivenessProbe.GRPC.Service)
	instance.serving(t, health, "")
	for account, want := range map[string]codes.Code{"operator": codes.OK, "customer": codes.PermissionDenied} {
		caller := issue(t, authority, account)
		connection := testkit.Dial(t, addresses["api"], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: authority.Pool, Certificates: []tls.Certificate{caller.Certificate},
			ServerName: c.service.Name + "." + c.namespace.Name + ".svc.cluster.local",
		})))
		_, err := treatyv1.NewSagaServiceClient(connection).ListSagas(t.Context(), &treatyv1.ListSagasRequest{})
		if status.Code(err) != want {
			t.Errorf("%s lists sagas: %v, want %s", account, err, want)
		}
	}
}

// issue returns a certificate as a service account of the namespace has it.
func issue(t *testing.T, authority *testkit.Authority, account string) testkit.Certificate {
	t.Helper()
	identity, err := url.Parse("spiffe://acme.example/ns/acme/sa/" + account)
	if err != nil {
		t.Fatal(err)
	}
	return authority.IssueAs(t, &x509.Certificate{
		DNSNames: []string{account + ".acme.svc.cluster.local"}, URIs: []*url.URL{identity},
	})
}
