package drift

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Digest returns the SHA-256 of files and their direct and indirect imports, in hex. The order of the files doesn't
// matter. The files of the package google.protobuf are left out, since libraries have versions of their own of them. It
// is empty if a file can't be serialized.
func Digest(files ...protoreflect.FileDescriptor) string {
	all := make(map[string]protoreflect.FileDescriptor)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if all[file.Path()] != nil || file.IsPlaceholder() || strings.HasPrefix(file.Path(), "google/protobuf/") {
			return
		}
		all[file.Path()] = file
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
	}
	for _, file := range files {
		add(file)
	}
	hash := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(all[path]))
		if err != nil {
			return ""
		}
		hash.Write(data)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
