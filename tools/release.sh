#!/usr/bin/env bash
# Builds the programs of a release from the commit that is checked out: static binaries for each system, the modules
# that they are made of, and checksums. Whoever builds the same commit gets the same bytes, in any folder and on any
# system: docs/releases.md. It needs Git, and replaces the folder bin/release:
#
#	linux_amd64/treaty ...   the programs of each system
#	Containerfile            makes an image of any of them
#	MODULES.txt              for each of them: Go's version, the modules with their checksums, and the build settings
#	SHA256SUMS               the checksums of all files; check them with "sha256sum -c SHA256SUMS"
#
# TARGETS="linux/amd64" builds for fewer systems. "tools/release.sh list" prints the programs and their folders.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly go=${GO:-go}
readonly targets=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}

# Each program and the folder of its package. The plugin of buf is a module of its own.
readonly programs=(
	"treaty cmd/treaty"
	"treatyvet cmd/treatyvet"
	"protoc-gen-go-treaty cmd/protoc-gen-go-treaty"
	"buf-plugin-treaty cmd/buf-plugin-treaty"
	"acme-sagas services/sagas"
	"acme-customer services/customer"
	"acme-identity services/identity"
	"acme-credit services/credit"
	"acme-card services/card"
	"acme-notification services/notification/go"
)

case "${1:-}" in
list)
	printf '%s\n' "${programs[@]}"
	exit
	;;
"") ;;
*)
	echo "tools/release.sh: unknown argument \"$1\": want nothing, or \"list\"" >&2
	exit 2
	;;
esac

changes=$(git status --porcelain)
if [ -n "$changes" ]; then
	echo "building a release: these changes are in no commit; commit or remove them first:" >&2
	echo "$changes" >&2
	exit 1
fi

# Go records the version in a binary only if it finds the folder .git, which a working tree of another checkout lacks. A
# clone has it, and nothing that isn't in the commit.
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git clone --quiet --no-checkout . "$source"
git -C "$source" checkout --quiet --detach "$(git rev-parse HEAD)"

# What can be set in the environment and changes binaries. Go has the version that go.mod names.
GOTOOLCHAIN=go$(sed -n 's/^go //p' "$source/go.mod")
export GOTOOLCHAIN GOFLAGS= CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT= GOFIPS140=off

mkdir -p bin
rm -rf bin/release
readonly out=$source/bin/release
for target in $targets; do
	export GOOS=${target%/*} GOARCH=${target#*/}
	for program in "${programs[@]}"; do
		read -r name folder <<<"$program"
		GOWORK=off
		[ ! -e "$source/$folder/go.work" ] || GOWORK=$source/$folder/go.work
		export GOWORK
		# -w leaves out what only debuggers read. Stack traces need it not.
		"$go" build -C "$source/$folder" -trimpath -buildvcs=true -ldflags=-w -o "$out/${GOOS}_$GOARCH/$name" .
	done
done

files() (cd "$out" && find -- * -type f | LC_ALL=C sort)
for file in $(files); do
	(cd "$out" && "$go" version -m "$file")
done >"$source/modules"
mv "$source/modules" "$out/MODULES.txt"
cp "$source/deploy/Containerfile" "$out/Containerfile"
sum=(sha256sum)
command -v sha256sum >/dev/null || sum=(shasum -a 256)
files | (cd "$out" && xargs "${sum[@]}") >"$source/sums"
mv "$source/sums" "$out/SHA256SUMS"

version=$(sed -n 's,^\tmod\tgithub.com/treatyhq/treaty\t\([^\t]*\).*,\1,p' "$out/MODULES.txt" | sort -u)
case "$version" in
v*) ;;
*)
	echo "building a release: the programs have the version \"$version\"; want one that begins with v" >&2
	exit 1
	;;
esac
mv "$out" bin/release
echo "built $version into bin/release"
