#!/usr/bin/env bash
# Runs a command on this checkout with Dawn installed and Debian sid's Mesa, whose software Vulkan driver has matrix units:
#   tests/dawn/mesa26.sh deno test -A tests/kernels
# That system is made on first use in COGTUNE_MESA26, by default ~/.cache/cogtune/mesa26 (3 minutes, 1 GB). The command sees the
# checkout as /src, and what it writes there is gone afterwards: Dawn in the lock file would have every user download it.
set -euo pipefail
repository=$(realpath "$(dirname "$0")/../..")
root=${COGTUNE_MESA26:-${XDG_CACHE_HOME:-$HOME/.cache}/cogtune/mesa26}
cache=${DENO_DIR:-$HOME/.cache/deno}

if [ "$(id -u)" != 0 ] || ! grep -q '^ID=debian$' /etc/os-release; then
  echo "error: this makes and enters a Debian system of its own, which needs root on Debian (a container will do)" >&2
  exit 2
fi
mkdir -p "$(dirname "$root")" "$cache"
exec 9>"$root.lock"
flock 9
if [ ! -d "$root" ]; then
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; }
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oEm1 'https?://[^ ]+/debian/?( |$)' || true)
  echo "making $root from ${mirror:?no Debian mirror found in /etc/apt}" >&2
  rm -rf "$root.part"
  if ! debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1,ffmpeg sid "$root.part" ${mirror% } >"$root.log" 2>&1; then
    tail -5 "$root.log" >&2
    echo "error: debootstrap failed, see $root.log" >&2
    exit 2
  fi
  mkdir -p "$root.part/src" "$root.part/shared" "$root.part/root/.cache/deno"
  mv "$root.part" "$root"
fi
cp -u "$(command -v deno)" "$root/usr/local/bin/deno"
flock -u 9

# Mounts live in a namespace of their own and go with the command.
export root repository cache
exec unshare --mount bash -euc '
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --bind "$cache" "$root/root/.cache/deno"
  # The full reference set, where there is one beside the checkout.
  [ ! -d "$repository/../shared" ] || mount --bind -o ro "$repository/../shared" "$root/shared"
  mount -t tmpfs tmpfs "$root/mnt"
  mkdir "$root/mnt/upper" "$root/mnt/work"
  mount -t overlay overlay -o "lowerdir=$repository,upperdir=$root/mnt/upper,workdir=$root/mnt/work" "$root/src"
  (cd "$root/src" && DENO_DIR=$cache deno add --quiet npm:webgpu@0.6.2)
  # Files that are not in there; Deno would warn on the stderr of every process.
  unset DENO_DIR DENO_CERT NODE_EXTRA_CA_CERTS
  exec chroot "$root" /usr/bin/env -C /src COGTUNE_DAWN=added HOME=/root PATH=/usr/local/bin:/usr/bin:/bin "$@"' mesa26 "$@"
