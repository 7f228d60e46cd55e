#!/bin/bash
# Adds a host route to each NODE, and restarts the interface so that it is in use.
# A node that has no route afterwards is taken once more.
#
#   add_host_route.sh ROUTE GATEWAY NODE...

route=$1 gateway=$2
todo=("${@:3}")

while [ ${#todo[@]} -gt 0 ]; do
  left=()
  for node in "${todo[@]}"; do
    ssh -n "$node" "ip route replace $route via $gateway dev eth1
      ip link set eth1 down; sleep 2; ip link set eth1 up"
    if ssh -n "$node" "ip route show $route" | grep -q via; then
      echo "$node: done"
    else
      echo "$node: no route yet, once more"
      left+=("$node")
    fi
  done
  todo=("${left[@]}")
done
