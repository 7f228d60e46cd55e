#!/bin/sh
# An inventory script as Ansible has them.
[ "$1" = --list ] || exit 1
cat <<'JSON'
{
  "web": {"hosts": ["web-2", "web-1"], "vars": {"ntp": "web", "n": 1, "f": 1.5, "t": true, "z": null, "l": [1, {"a": "b"}]}},
  "db": ["db-1"],
  "site": {"children": ["web", "db"], "vars": {"ntp": "site"}},
  "empty": {"hosts": []},
  "all": {"vars": {"everywhere": 1}, "hosts": ["alone"]},
  "_meta": {"hostvars": {
    "web-1": {"ansible_host": "192.0.2.11", "ansible_port": 2222, "rack": "a"},
    "db-1": {"e": "\u00e9 \"x\""}
  }}
}
JSON
