#!/bin/sh
# Builds one static binary of deskbatch for Linux.
#
#   contrib/build-static.sh               musl: runs on any Linux of this architecture
#   contrib/build-static.sh --glibc       glibc of this host, linked statically
#   contrib/build-static.sh --check       lists missing tools for musl, builds nothing
#
# The binary is written to target/<target>/dist/deskbatch. Needs the Rust toolchain and a C
# compiler for SQLite. A missing tool is named with the command that installs it.
set -eu
cd "$(dirname "$0")/.."

mode=${1:---musl}
case $mode in
  --musl | --check) libc=musl ;;
  --glibc) libc=gnu ;;
  *)
    echo "usage: contrib/build-static.sh [--musl | --glibc | --check]" >&2
    exit 2
    ;;
esac

command -v cargo >/dev/null || {
  echo "cargo not found: install the Rust toolchain, https://rustup.rs" >&2
  exit 2
}

arch=$(uname -m)
[ "$(uname -s)" = Linux ] || {
  echo "a static binary can only be built on Linux, not on $(uname -s): use cargo install --path . --locked" >&2
  exit 2
}
case $arch in
  x86_64 | aarch64) ;;
  arm64) arch=aarch64 ;;
  *)
    echo "no static build for $arch: use cargo install --path . --locked" >&2
    exit 2
    ;;
esac
target=$arch-unknown-linux-$libc

missing=0
lacks() {
  echo "missing: $1: $2" >&2
  missing=1
}
# The directory of the target's standard library.
std=$(rustc --print target-libdir --target "$target")
[ -n "$(find "$std" -name 'libstd-*.rlib' 2>/dev/null)" ] ||
  lacks "Rust's standard library for $target" "rustup target add $target"
if [ $libc = musl ]; then
  command -v musl-gcc >/dev/null ||
    lacks "musl-gcc, which builds SQLite and the cryptography for musl" "apt-get install musl-tools (Debian, Ubuntu), or dnf install musl-gcc (Fedora)"
else
  command -v cc >/dev/null || lacks "a C compiler" "apt-get install build-essential"
  [ -n "$(find /usr/lib /usr/lib64 -name libc.a 2>/dev/null)" ] ||
    lacks "glibc's static library" "apt-get install libc6-dev, or dnf install glibc-static"
fi
[ $missing -eq 0 ] || exit 1
[ "$mode" != --check ] || {
  echo "all tools are installed for $target"
  exit 0
}

upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
if [ $libc = musl ]; then
  export "CC_$(echo "$target" | tr - _)=musl-gcc" "CARGO_TARGET_${upper}_LINKER=musl-gcc"
else
  export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static"
fi
cargo build --locked --profile dist --target "$target"

binary=target/$target/dist/deskbatch
# Verify that the binary loads no library when it starts.
if command -v readelf >/dev/null && readelf --dynamic "$binary" | grep -q NEEDED; then
  echo "$binary is not static, it loads these libraries:" >&2
  readelf --dynamic "$binary" | grep NEEDED >&2
  exit 1
fi
"$binary" --version
ls -l "$binary"
