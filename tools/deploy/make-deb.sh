#!/bin/sh
# Builds a Debian package of what install.sh installs; `make deb` calls it. No network, no root.
#
#   BUILD=build tools/deploy/make-deb.sh PROGRAM...
#
# Prints the path of the package. Its version is that of core/version.h, its dependencies are those
# that dpkg-shlibdeps finds, its times those of the last commit, so that one revision makes one
# package. MAINTAINER='NAME <ADDRESS>' names another than the last commit's author.
set -eu

build="${BUILD:-build}"
here=$(dirname "$0")
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v "$tool" >/dev/null && continue
    echo "make-deb: $tool is missing; install dpkg-dev" >&2
    exit 1
done
version=$(sed -n 's/.*kVersion = "\(.*\)";.*/\1/p' "$here/../../core/version.h")-1
architecture=$(dpkg --print-architecture)
git="git -c safe.directory=*"
maintainer="${MAINTAINER:-$($git log -1 --format='%an <%ae>')}"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$($git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
root="$build/deb/root"
rm -rf "$build/deb"
mkdir -p "$root/DEBIAN" "$build/deb/debian"

umask 022
DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc "$here/install.sh" install "$@"
# Where Debian 12 wants units, and completions of zsh.
mkdir -p "$root/lib" "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/lib/systemd" "$root/lib/systemd"
rmdir "$root/usr/lib"
mv "$root"/usr/share/zsh/site-functions/* "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"

doc="$root/usr/share/doc/pulsewheel"
cat >"$doc/copyright" <<EOF
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: pulsewheel

Files: *
Copyright: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y) the authors of Pulsewheel
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
EOF
gzip -9 -n >"$doc/changelog.Debian.gz" <<EOF
pulsewheel ($version) unstable; urgency=medium

  * Revision $($git rev-parse --short=12 HEAD).

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF

for script in postinst prerm postrm; do
    install -m 755 "$here/debian/$script" "$root/DEBIAN/$script"
done
echo /etc/pulsewheel/pulsewheel.toml >"$root/DEBIAN/conffiles"
# dpkg-shlibdeps wants to stand beside a debian/control.
printf 'Source: pulsewheel\n\nPackage: pulsewheel\nArchitecture: any\n' >"$build/deb/debian/control"
programs=""
for program in "$@"; do programs="$programs root/usr/bin/$program"; done
libraries=$(cd "$build/deb" && dpkg-shlibdeps -O $programs | sed -n 's/^shlibs:Depends=//p')
sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" \
    -e "s|@MAINTAINER@|$maintainer|" -e "s|@LIBRARIES@|$libraries|" \
    -e "s|@SIZE@|$(du -sk --exclude=DEBIAN "$root" | cut -f1)|" \
    "$here/debian/control.in" >"$root/DEBIAN/control"
(cd "$root" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\n' |
    LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
package="$build/pulsewheel_${version}_$architecture.deb"
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
rm -rf "$build/deb"
echo "$package"
