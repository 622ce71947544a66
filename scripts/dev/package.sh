#!/bin/bash
# package: dist/mayfly_VERSION_amd64.deb and dist/mayfly-VERSION-linux-amd64.tar.gz from the release build.
# The program finds the model runtime beside itself in ../lib/mayfly, in both.
source "$(dirname "$0")/lib.sh"
verb setup build
version=$(version)
library=$DEPS/onnxruntime/libonnxruntime.so.1.32.0
zygote=$ROOT/build/release/src/runtimes/zygote/mayfly-zygote # inside the program
stage=$ROOT/build/package
dist=$ROOT/dist
rm -rf "$stage"
mkdir -p "$stage/deb/DEBIAN" "$dist"

stripped() { install -m 0755 "$1" "$2" && strip --strip-debug "$2"; }

# depends FILE...: the Debian packages whose libraries the files need, each with the oldest version that has what is used of it.
# The tool wants a source package's control file in the folder in which it runs.
depends() {
  mkdir -p "$stage/shlibs/debian"
  printf 'Source: mayfly\n\nPackage: mayfly\nArchitecture: amd64\n' >"$stage/shlibs/debian/control"
  (cd "$stage/shlibs" && dpkg-shlibdeps -O "${@/#/-e}") | sed -n 's/^shlibs:Depends=//p'
}

build_deb() {
  local deb=$stage/deb needed
  install -d "$deb"/usr/bin "$deb"/usr/lib/mayfly "$deb"/lib/systemd/system "$deb"/usr/share/doc/mayfly
  stripped "$MAYFLY" "$deb/usr/bin/mayfly"
  install -m 0644 "$library" "$deb/usr/lib/mayfly/"
  install -m 0644 deploy/systemd/mayfly.service "$deb/lib/systemd/system/"
  install -m 0644 THIRD_PARTY_NOTICES.md "$deb/usr/share/doc/mayfly/NOTICES"
  install -m 0644 "${library%/*}/ThirdPartyNotices.txt" "$deb/usr/share/doc/mayfly/ThirdPartyNotices.txt"
  printf 'Mayfly is licensed under the Apache License 2.0 (/usr/share/common-licenses/Apache-2.0).\n%s\n' \
    'What it contains or needs of others is named in NOTICES.' >"$deb/usr/share/doc/mayfly/copyright"
  needed=$(depends "$deb/usr/bin/mayfly" "$zygote" "$deb/usr/lib/mayfly/$(basename "$library")")
  echo "$needed" >"$stage/depends"
  install -m 0755 deploy/deb/postinst deploy/deb/prerm deploy/deb/postrm "$deb/DEBIAN/"
  cat >"$deb/DEBIAN/control" <<CONTROL
Package: mayfly
Version: $version
Architecture: amd64
Maintainer: The Mayfly authors <mayfly@localhost>
Section: net
Priority: optional
Depends: $needed, adduser
Description: serverless inference platform
 Deploy a trained model and have a URL; instances start in milliseconds when
 requests come, each in a sandbox of its own, and vanish when they stop.
CONTROL
  dpkg-deb --root-owner-group --build "$deb" "$dist/mayfly_${version}_amd64.deb"
}

build_tarball() {
  local name=mayfly-$version-linux-amd64
  local tree=$stage/$name
  install -d "$tree/bin" "$tree/lib/mayfly"
  install -m 0755 "$stage/deb/usr/bin/mayfly" "$tree/bin/"
  install -m 0644 "$library" "$tree/lib/mayfly/"
  install -m 0644 LICENSE THIRD_PARTY_NOTICES.md "${library%/*}/ThirdPartyNotices.txt" deploy/systemd/mayfly.service "$tree/"
  local packages
  packages=$(sed 's/ ([^)]*)//g; s/,//g' "$stage/depends")
  sed -e "s/@VERSION@/$version/" -e "s/@PACKAGES@/$packages/" deploy/tarball/INSTALL >"$tree/INSTALL"
  tar -C "$stage" --owner=0 --group=0 --sort=name -czf "$dist/$name.tar.gz" "$name"
}

step package-deb "Debian package" build_deb
step package-tar "tarball" build_tarball
ls -l "$dist"
