package reflection

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// reflectionV1Alpha is the method of the older server reflection. Its messages are those of v1 on the wire.
const reflectionV1Alpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

// Client has the types and methods that a server's reflection offers, v1 or else v1alpha. It asks for each of them once
// and keeps the answer. It isn't safe for concurrent use. The server's answers are taken for hostile: they are limited,
// and what can't be read is an error.
type Client struct {
	ctx     context.Context
	conn    grpc.ClientConnInterface
	timeout time.Duration
	size    size

	// alpha is true once the server has turned out not to offer v1.
	alpha bool

	stream   reflectionv1.ServerReflection_ServerReflectionInfoClient
	cancel   context.CancelFunc
	received map[string]*descriptorpb.FileDescriptorProto
	loading  map[string]bool
	files    *protoregistry.Files
	missing  map[protoreflect.FullName]error
}

// New makes a schema that asks over conn until ctx ends. timeout limits each question.
func New(ctx context.Context, conn grpc.ClientConnInterface, timeout time.Duration) *Client {
	return &Client{
		ctx:      ctx,
		conn:     conn,
		timeout:  timeout,
		received: map[string]*descriptorpb.FileDescriptorProto{},
		loading:  map[string]bool{},
		files:    new(protoregistry.Files),
		missing:  map[protoreflect.FullName]error{},
	}
}

// Close ends the stream to the server. A later question opens another one.
func (c *Client) Close() {
	if c.stream != nil {
		c.cancel()
		c.stream = nil
	}
}

// ask sends one question, to v1alpha if the server doesn't offer v1. The error is a gRPC status: of the call, or in the
// server's answer.
func (c *Client) ask(question *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	answer, err := c.askOnce(question)
	if status.Code(err) == codes.Unimplemented && !c.alpha {
		c.alpha = true
		older, alphaErr := c.askOnce(question)
		if c.alpha = status.Code(alphaErr) != codes.Unimplemented; c.alpha {
			answer, err = older, alphaErr
		}
	}
	if err != nil {
		return nil, err
	}
	if refused := answer.GetErrorResponse(); refused != nil {
		return nil, status.Error(codes.Code(refused.GetErrorCode()), refused.GetErrorMessage())
	}
	return answer, nil
}

// askOnce sends one question to one version of the reflection. It opens a stream if there is none.
func (c *Client) askOnce(
	question *reflectionv1.ServerReflectionRequest,
) (answer *reflectionv1.ServerReflectionResponse, err error) {
	ctx := c.ctx
	if c.stream == nil {
		ctx, c.cancel = context.WithCancel(c.ctx)
	}
	// A stream has only one deadline. The timer gives each question its own.
	late := time.AfterFunc(c.timeout, c.cancel)
	if c.stream == nil {
		c.stream, err = c.open(ctx)
	}
	if err == nil {
		answer, err = exchange(c.stream, question)
	}
	if !late.Stop() && err != nil && c.ctx.Err() == nil {
		err = status.Errorf(codes.DeadlineExceeded, "server reflection didn't answer within %s", c.timeout)
	}
	if err != nil {
		c.cancel()
		c.stream = nil
		return nil, err
	}
	return answer, nil
}

// open starts a stream to the server's reflection.
func (c *Client) open(ctx context.Context) (reflectionv1.ServerReflection_ServerReflectionInfoClient, error) {
	if !c.alpha {
		return reflectionv1.NewServerReflectionClient(c.conn).ServerReflectionInfo(ctx)
	}
	stream, err := c.conn.NewStream(ctx, &reflectionv1.ServerReflection_ServiceDesc.Streams[0], reflectionV1Alpha)
	if err != nil {
		return nil, err
	}
	return &grpc.GenericClientStream[
		reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse,
	]{ClientStream: stream}, nil
}

func exchange(
	stream reflectionv1.ServerReflection_ServerReflectionInfoClient, question *reflectionv1.ServerReflectionRequest,
) (*reflectionv1.ServerReflectionResponse, error) {
	// If Send fails, Recv returns the cause.
	_ = stream.Send(question)
	return stream.Recv()
}

// Services returns the sorted names of the services that the server offers. The error wraps a gRPC status, which is
// UNIMPLEMENTED if the server has no reflection.
func (c *Client) Services() ([]protoreflect.FullName, error) {
	answer, err := c.ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, fmt.Errorf("listing the services: %w", err)
	}
	services := answer.GetListServicesResponse().GetService()
	if len(services) > maxServices {
		return nil, status.Errorf(codes.ResourceExhausted, "the server lists %d services, more than the limit of %d",
			len(services), maxServices)
	}
	var names []protoreflect.FullName
	for _, service := range services {
		names = append(names, protoreflect.FullName(service.GetName()))
	}
	slices.Sort(names)
	return names, nil
}

// find returns a descriptor by its full name. The error wraps a gRPC status, which is NOT_FOUND for an unknown name.
func (c *Client) find(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := c.files.FindDescriptorByName(name); err == nil {
		return found, nil
	}
	if err, ok := c.missing[name]; ok {
		return nil, err
	}
	found, err := c.fetch(name)
	if err != nil {
		err = fmt.Errorf("looking up %s by server reflection: %w", name, err)
		c.missing[name] = err
		return nil, err
	}
	return found, nil
}

func (c *Client) fetch(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if !name.IsValid() {
		return nil, status.Error(codes.NotFound, "not a protobuf name")
	}
	paths, err := c.receive(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(name)},
	})
	if err != nil {
		return nil, err
	}
	var failed error
	for _, path := range paths {
		failed = cmp.Or(failed, c.load(path))
	}
	// What isn't valid in the answer may be about other names.
	found, err := c.files.FindDescriptorByName(name)
	switch {
	case err == nil:
		return found, nil
	case failed != nil:
		return nil, failed
	default:
		return nil, status.Error(codes.NotFound, "the answer doesn't contain it")
	}
}

// receive asks for files, keeps them, and returns their paths.
func (c *Client) receive(question *reflectionv1.ServerReflectionRequest) ([]string, error) {
	answer, err := c.ask(question)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := new(descriptorpb.FileDescriptorProto)
		if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(raw, file); err != nil {
			return nil, status.Errorf(codes.Internal, "reading a descriptor: %v", err)
		}
		if err := c.size.add(raw, file); err != nil {
			return nil, err
		}
		if isCombined(file.GetName(), file.GetPackage()) && file.GetPackage() == "google.protobuf" {
			continue // this program has the types of protobuf itself
		}
		if c.received[file.GetName()] == nil {
			c.received[file.GetName()] = file
		}
		paths = append(paths, file.GetName())
	}
	return paths, nil
}

// load registers a received file with its imports. An import that the server doesn't offer is taken from the files
// built into this program.
func (c *Client) load(path string) error {
	if _, err := c.files.FindFileByPath(path); err == nil {
		return nil
	}
	if c.loading[path] {
		return status.Errorf(codes.Internal, "%s imports itself", path)
	}
	c.loading[path] = true
	defer delete(c.loading, path)
	file, err := c.file(path)
	if err != nil {
		return err
	}
	c.complete(file)
	for _, dependency := range file.GetDependency() {
		if err := c.load(dependency); err != nil {
			return err
		}
	}
	descriptor, err := protodesc.NewFile(file, c.files)
	if err != nil {
		return status.Errorf(codes.Internal, "%s isn't a valid file: %v", path, err)
	}
	if err := c.files.RegisterFile(descriptor); err != nil {
		return status.Errorf(codes.Internal, "%s conflicts with another file: %v", path, err)
	}
	return nil
}

func (c *Client) file(path string) (*descriptorpb.FileDescriptorProto, error) {
	if file := c.received[path]; file != nil {
		return file, nil
	}
	_, err := c.receive(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: path},
	})
	if file := c.received[path]; file != nil {
		return file, nil
	}
	if builtIn, globalErr := protoregistry.GlobalFiles.FindFileByPath(path); globalErr == nil {
		return protodesc.ToFileDescriptorProto(builtIn), nil
	}
	if err == nil {
		err = status.Error(codes.NotFound, path)
	}
	return nil, err
}

// Message returns a message type by its full name: the server's, or else the one built into this program. The error
// wraps a gRPC status, which is NOT_FOUND for an unknown name.
func (c *Client) Message(name protoreflect.FullName) (protoreflect.MessageDescriptor, error) {
	found, err := c.find(name)
	if err == nil {
		if message, ok := found.(protoreflect.MessageDescriptor); ok {
			return message, nil
		}
		return nil, status.Errorf(codes.NotFound, "%s isn't a message", name)
	}
	if builtIn, globalErr := protoregistry.GlobalTypes.FindMessageByName(name); globalErr == nil {
		return builtIn.Descriptor(), nil
	}
	return nil, err
}

// Service returns a service of the server by its full name. The error wraps a gRPC status, which is NOT_FOUND if the
// server has no descriptor of it.
func (c *Client) Service(name protoreflect.FullName) (protoreflect.ServiceDescriptor, error) {
	found, err := c.find(name)
	if err != nil {
		return nil, err
	}
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%s isn't a service", name)
	}
	return service, nil
}

// Method returns a method by its name, "package.Service/Method". The error wraps a gRPC status, which is NOT_FOUND for
// an unknown name.
func (c *Client) Method(name string) (protoreflect.MethodDescriptor, error) {
	service, method, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%q isn't of the form package.Service/Method", name)
	}
	found, err := c.find(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	if service, ok := found.(protoreflect.ServiceDescriptor); ok {
		if method := service.Methods().ByName(protoreflect.Name(method)); method != nil {
			return method, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "%s has no method %s", service, method)
}

// FindMessageByName lets packages protojson and proto resolve messages.
func (c *Client) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	message, err := c.Message(name)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(message), nil
}

// FindMessageByURL lets packages protojson and proto resolve an Any.
func (c *Client) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return c.FindMessageByName(TypeName(url))
}

// FindExtensionByName finds none: proto3 payloads have no extensions, and an unresolved one is never shown.
func (c *Client) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// FindExtensionByNumber finds none, like FindExtensionByName.
func (c *Client) FindExtensionByNumber(
	protoreflect.FullName, protoreflect.FieldNumber,
) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// TypeName returns the full name of the message in the type URL of an Any.
func TypeName(url string) protoreflect.FullName {
	return protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
}

// Load takes the types of files that were compiled together, such as those in the output of buf build, instead of
// asking the server for them. Call it first. The error says which file isn't valid.
func (c *Client) Load(set *descriptorpb.FileDescriptorSet) error {
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return err
	}
	c.Use(files)
	return nil
}

// Use takes the types of files instead of asking the server for them. Call it first.
func (c *Client) Use(files *protoregistry.Files) { c.files = files }

// Files returns the files that were loaded so far.
func (c *Client) Files() *protoregistry.Files { return c.files }

// FindDescriptorByName returns a descriptor by its full name. The error wraps a gRPC status, which is NOT_FOUND for an
// unknown name.
func (c *Client) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return c.find(name)
}
