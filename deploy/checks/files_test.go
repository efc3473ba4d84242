package checks

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root = "../.."

	containerfile  = root + "/deploy/Containerfile"
	composeFile    = root + "/deploy/compose.yaml"
	kubernetesFile = root + "/deploy/kubernetes.yaml"
	secretsFile    = root + "/deploy/secrets.example.yaml"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// write writes a file and its folders.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// documents returns the documents of a YAML file.
func documents(t *testing.T, path string) [][]byte {
	t.Helper()
	return bytes.Split(read(t, path), []byte("\n---\n"))
}

// programOf returns the program that an image holds: the image is named after it.
func programOf(image string) string {
	name, _, _ := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":")
	return name
}
