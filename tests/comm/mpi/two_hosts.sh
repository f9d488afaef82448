#!/bin/sh
# Runs a program as two MPI ranks on "hosts" that are two network namespaces joined by a cable. Needs root, iproute2, openmpi-bin.
# Run: tests/comm/mpi/two_hosts.sh deno run -A tests/comm/exchange/exchange_program.ts
set -eu
left="cogtune-left-$$" right="cogtune-right-$$" folder=$(mktemp -d)
trap 'ip netns del "$left"; ip netns del "$right"; rm -r "$folder"' EXIT
ip netns add "$left"
ip netns add "$right"
ip link add left netns "$left" type veth peer name right netns "$right"
ip -n "$left" addr add 10.77.0.1/24 dev left
ip -n "$right" addr add 10.77.0.2/24 dev right
for link in "$left lo" "$left left" "$right lo" "$right right"; do
  # shellcheck disable=SC2086
  set -- ${link} "$@"
  ip -n "$1" link set "$2" up
  shift 2
done
# What ssh does between real hosts: the first word is the host, the rest is a command for its shell.
printf '#!/bin/sh\nshift\nexec ip netns exec %s sh -c "$*"\n' "$right" > "$folder/agent"
chmod +x "$folder/agent"
ip netns exec "$left" mpirun --allow-run-as-root -n 2 --host 10.77.0.1:1,10.77.0.2:1 \
  --mca plm_rsh_agent "$folder/agent" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 \
  --mca oob_tcp_if_include 10.77.0.0/24 "$@"
