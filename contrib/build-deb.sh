#!/bin/sh
# Builds the Debian package of deskbatch for this host: target/debian/deskbatch_*.deb.
# Needs the Rust toolchain, a C compiler and cargo-deb (cargo install cargo-deb --locked).
set -eu
cd "$(dirname "$0")/.."

command -v cargo-deb >/dev/null || {
  echo "missing: cargo-deb: cargo install cargo-deb --locked" >&2
  exit 1
}
# `contrib/build-deb.sh --quick` packages the build of `cargo build --release`: larger, but built faster.
case ${1:-} in
  '') profile=dist directory=dist ;;
  --quick) profile=release directory=release ;;
  *)
    echo "usage: contrib/build-deb.sh [--quick]" >&2
    exit 2
    ;;
esac
cargo build --locked --profile "$profile" --bin deskbatch
binary=target/$directory/deskbatch
"$binary" --version
# The package also contains the man pages and the completions (assets in Cargo.toml).
rm -rf target/man target/completions
mkdir -p target/man target/completions
"$binary" man --dir target/man
"$binary" completions bash >target/completions/deskbatch
"$binary" completions zsh >target/completions/_deskbatch
"$binary" completions fish >target/completions/deskbatch.fish
cargo deb --locked --no-build --profile "$profile"
ls -l target/debian/*.deb
