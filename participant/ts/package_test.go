package ts_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/internal/testkit"
)

// TestNode runs the tests that are written in TypeScript.
func TestNode(t *testing.T) {
	node := testkit.BuildNode(t, ".")
	sources, err := filepath.Glob(filepath.Join("src", "*.test.ts"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("there are no tests: %v", err)
	}
	arguments := []string{"--test"}
	for _, source := range sources {
		name := strings.TrimSuffix(filepath.Base(source), ".ts")
		arguments = append(arguments, filepath.Join("dist", name+".js"))
	}
	run(t, ".", node, arguments...)
}

func run(t *testing.T, dir, program string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(arguments, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// pack returns the path of the tarball that npm makes of the package. The package must have been built.
func pack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out := run(t, ".", "npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", dir)
	return filepath.Join(dir, strings.TrimSpace(out))
}

// readTarball returns the files in a tarball of npm, by their names without the common folder.
func readTarball(t *testing.T, path string) map[string][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(header.Name, "package/")] = content
	}
}

// TestTarball checks what is in the package that npm installs: what is compiled with its types, the contracts of
// treaty.v1 as they are in proto/, the license of this repository, and a README. There are neither sources nor tests.
func TestTarball(t *testing.T) {
	testkit.BuildNode(t, ".")
	want := []string{"LICENSE", "README.md", "package.json"}
	sources, err := filepath.Glob(filepath.Join("src", "*.ts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		name := strings.TrimSuffix(filepath.Base(source), ".ts")
		if !strings.HasSuffix(name, ".test") {
			want = append(want, "dist/"+name+".js", "dist/"+name+".d.ts")
		}
	}
	same := map[string]string{"LICENSE": filepath.Join("..", "..", "LICENSE")}
	contracts, err := filepath.Glob(filepath.Join("..", "..", "proto", "treaty", "v1", "*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	for _, contract := range contracts {
		name := "proto/treaty/v1/" + filepath.Base(contract)
		want, same[name] = append(want, name), contract
	}
	files := readTarball(t, pack(t))
	var got []string
	for name, content := range files {
		got = append(got, name)
		if original, is := same[name]; is {
			expected, err := os.ReadFile(original)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content, expected) {
				t.Errorf("%s differs from %s", name, original)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got); if one has been removed, delete dist and try again:\n%s", diff)
	}
	var about struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		License string `json:"license"`
	}
	if err := json.Unmarshal(files["package.json"], &about); err != nil {
		t.Fatal(err)
	}
	if about.Name != "@treatyhq/participant" || about.Version == "" || about.License != "Apache-2.0" {
		t.Errorf("the package says that it is %+v", about)
	}
}

// TestFreshProject installs the tarball in an empty folder, compiles the program of the README with all checks of the
// compiler, and runs it.
func TestFreshProject(t *testing.T) {
	node := testkit.BuildNode(t, ".")
	dir := t.TempDir()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var versions struct {
		PeerDependencies map[string]string `json:"peerDependencies"`
		DevDependencies  map[string]string `json:"devDependencies"`
	}
	about, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(about, &versions); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("package.json", `{"name": "fresh", "private": true, "type": "module"}`)
	write("tsconfig.json", `{
		"compilerOptions": {
			"target": "es2022", "module": "nodenext", "outDir": "dist", "strict": true, "types": ["node"],
			"noUncheckedIndexedAccess": true, "exactOptionalPropertyTypes": true, "noImplicitOverride": true,
			"noPropertyAccessFromIndexSignature": true, "skipLibCheck": false
		},
		"files": ["server.ts"]
	}`)
	write("proto/stock/v1/stock_service.proto", block(t, string(readme), "proto"))
	program := strings.Replace(block(t, string(readme), "ts"), ":7101", ":0", 1)
	write("server.ts", `import { Client, credentials } from "@grpc/grpc-js";`+"\n"+program+`
const client = new Client(`+"`127.0.0.1:${port}`"+`, credentials.createInsecure());
const reserve = contract["ReserveStock"]!;
client.makeUnaryRequest(reserve.path, reserve.requestSerialize, reserve.responseDeserialize, { item: "teapot" },
  (error: Error | null, reply?: unknown) => {
    console.log(error?.message ?? JSON.stringify(reply));
    void participant.stop().then(() => process.exit(0));
  });
`)
	arguments := []string{"install", "--silent", "--no-fund", "--no-audit", "--prefer-offline", pack(t)}
	for name, version := range versions.DevDependencies {
		arguments = append(arguments, name+"@"+version)
	}
	run(t, dir, "npm", arguments...)
	for name := range versions.PeerDependencies {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", filepath.FromSlash(name))); err != nil {
			t.Errorf("npm hasn't installed %s: %v", name, err)
		}
	}
	run(t, dir, node, filepath.Join("node_modules", "typescript", "bin", "tsc"))
	const want = `{"reservation":"reservations/1"}`
	if got := strings.TrimSpace(run(t, dir, node, "dist/server.js")); got != want {
		t.Errorf("the program prints %q, want %q", got, want)
	}
}

// block returns the first code block of a language in a page.
func block(t *testing.T, page, language string) string {
	t.Helper()
	_, after, found := strings.Cut(page, "\n```"+language+"\n")
	code, _, ended := strings.Cut(after, "\n```\n")
	if !found || !ended {
		t.Fatalf("the page has no block in %s", language)
	}
	return code + "\n"
}
