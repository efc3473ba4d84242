package notification_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectiongrpc "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// reflected is what reflection says: the services of the participant, and for each question the files or the error.
type reflected struct {
	services []string
	files    map[string]map[string]string // by question and name, serialized
	errors   map[string]codes.Code
}

// reflectOn asks everything over one version of reflection, each question on a stream of its own.
func reflectOn(t *testing.T, connection *grpc.ClientConn, version string) reflected {
	t.Helper()
	got := reflected{files: make(map[string]map[string]string), errors: make(map[string]codes.Code)}
	list := ask(t, connection, version, &reflectiongrpc.ServerReflectionRequest{
		MessageRequest: &reflectiongrpc.ServerReflectionRequest_ListServices{},
	})
	for _, service := range list.GetListServicesResponse().GetService() {
		if !strings.HasPrefix(service.GetName(), "grpc.") {
			got.services = append(got.services, service.GetName())
		}
	}
	slices.Sort(got.services)
	questions := map[string]*reflectiongrpc.ServerReflectionRequest{
		"an extension": {MessageRequest: &reflectiongrpc.ServerReflectionRequest_FileContainingExtension{
			FileContainingExtension: &reflectiongrpc.ExtensionRequest{ContainingType: "a.B", ExtensionNumber: 1},
		}},
		"the extensions": {MessageRequest: &reflectiongrpc.ServerReflectionRequest_AllExtensionNumbersOfType{
			AllExtensionNumbersOfType: "a.B",
		}},
	}
	for _, name := range []string{"acme/privacy/v1/user_data_service.proto", "treaty/v1/options.proto", "none.proto"} {
		questions[name] = &reflectiongrpc.ServerReflectionRequest{
			MessageRequest: &reflectiongrpc.ServerReflectionRequest_FileByFilename{FileByFilename: name},
		}
	}
	for _, symbol := range []string{
		"acme.notification.v1.NotificationService", "acme.notification.v1.NotificationService.SendWelcome",
		"acme.notification.v1.WelcomeSent", "acme.notification.v1.WelcomeSent.message", "treaty.v1.command",
		"treaty.v1.CloseCommandResponse.Executed", "treaty.v1.CommandVerdict", "treaty.v1.ParticipantService",
		"none.None",
	} {
		questions[symbol] = &reflectiongrpc.ServerReflectionRequest{
			MessageRequest: &reflectiongrpc.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		}
	}
	for name, question := range questions {
		answer := ask(t, connection, version, question)
		if failed := answer.GetErrorResponse(); failed != nil {
			got.errors[name] = codes.Code(failed.GetErrorCode())
		}
		got.files[name] = make(map[string]string)
		for _, encoded := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
			var file descriptorpb.FileDescriptorProto
			if err := proto.Unmarshal(encoded, &file); err != nil {
				t.Errorf("%s: a file can't be read: %v", name, err)
			}
			got.files[name][file.GetName()] = string(encoded)
		}
		if !proto.Equal(answer.GetOriginalRequest(), question) {
			t.Errorf("%s: the answer repeats the question as %v", name, answer.GetOriginalRequest())
		}
	}
	return got
}

func ask(
	t *testing.T, connection *grpc.ClientConn, version string, question *reflectiongrpc.ServerReflectionRequest,
) *reflectiongrpc.ServerReflectionResponse {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
	if err != nil {
		t.Fatal(err)
	}
	answer := new(reflectiongrpc.ServerReflectionResponse)
	if err := stream.SendMsg(question); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(answer); err != nil {
		t.Fatalf("%v: %v", question, err)
	}
	return answer
}

// TestReflection asks both twins for their contracts. The answers are the same in every byte, so they have their
// options and imports. Questions about extensions may be answered NOT_FOUND.
func TestReflection(t *testing.T) {
	answers, digests := make(map[string]reflected), make(map[string]string)
	for name, build := range implementations {
		p := start(t, build(t), filepath.Join(t.TempDir(), "notification.db"))
		answers[name] = reflectOn(t, p.connection, "v1")
		if diff := cmp.Diff(answers[name], reflectOn(t, p.connection, "v1alpha"),
			cmp.AllowUnexported(reflected{})); diff != "" {
			t.Errorf("%s: v1alpha differs (-v1 +v1alpha):\n%s", name, diff)
		}
		described, err := p.questions.Describe(asking(t, "4"), &treatyv1.DescribeRequest{StoreId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		digests[name] = described.GetContractsDigest()
	}
	want, got := answers["go"], answers["typescript"]
	if diff := cmp.Diff(want.services, got.services); diff != "" || len(got.services) != 3 {
		t.Errorf("services (-go +typescript):\n%s", diff)
	}
	if diff := cmp.Diff(want.errors, got.errors); diff != "" || len(got.errors) != 4 {
		t.Errorf("errors (-go +typescript):\n%s", diff)
	}
	for question, files := range want.files {
		names := slices.Sorted(maps.Keys(files))
		if diff := cmp.Diff(names, slices.Sorted(maps.Keys(got.files[question]))); diff != "" {
			t.Errorf("%s: files (-go +typescript):\n%s", question, diff)
		}
		for name, encoded := range files {
			// Go's protobuf library has a descriptor.proto of its own version.
			if got.files[question][name] != encoded && name != "google/protobuf/descriptor.proto" {
				t.Errorf("%s: %s differs from that of the twin in Go", question, name)
			}
		}
	}
	if digests["go"] == "" || digests["go"] != digests["typescript"] {
		t.Errorf("the digests of the contracts are %q", digests)
	}
	checkDescriptors(t, got.files["acme.notification.v1.NotificationService"])
}

// checkDescriptors builds the contract from what reflection says, as tools do.
func checkDescriptors(t *testing.T, files map[string]string) {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	for _, encoded := range files {
		file := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal([]byte(encoded), file); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, file)
	}
	built, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	found, err := built.FindDescriptorByName("acme.notification.v1.NotificationService.SendWelcome")
	if err != nil {
		t.Fatal(err)
	}
	linked := notificationv1.File_acme_notification_v1_notification_service_proto.Services().Get(0).Methods().
		ByName("SendWelcome")
	if diff := cmp.Diff(proto.GetExtension(linked.Options(), treatyv1.E_Command),
		proto.GetExtension(found.Options(), treatyv1.E_Command), protocmp.Transform()); diff != "" {
		t.Errorf("the command's contract (-linked +reflected):\n%s", diff)
	}
}
