#!/bin/sh
# Builds the Debian package of deskbatch for this machine: target/debian/deskbatch_*.deb.
# Needs the Rust toolchain, a C compiler and cargo-deb (cargo install cargo-deb --locked).
set -eu
cd "$(dirname "$0")/.."

command -v cargo-deb >/dev/null || {
  echo "missing: cargo-deb: cargo install cargo-deb --locked" >&2
  exit 1
}
# `contrib/build-deb.sh --quick` packs what `cargo build --release` makes: larger, and built in less time.
case ${1:-} in
  '') profile=dist folder=dist ;;
  --quick) profile=release folder=release ;;
  *)
    echo "usage: contrib/build-deb.sh [--quick]" >&2
    exit 2
    ;;
esac
cargo build --locked --profile "$profile" --bin deskbatch
# Here is the place for what the binary writes about itself (completions, man pages): make it
# with target/$folder/deskbatch, and name it under assets in Cargo.toml.
"target/$folder/deskbatch" --version
cargo deb --locked --no-build --profile "$profile"
ls -l target/debian/*.deb
