package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"runbook/lab"
)

// write makes a file in the site's folder.
func (s *site) write(name, text string, mode os.FileMode) {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.Fatal(err)
	}
}

// routes says which of the site's nodes have a route to dst.
func (s *site) routes(dst string) string {
	var out []string
	for _, n := range s.lab.Nodes() {
		if s.exec(n.Name, "ip", "route", "show", dst) != "" {
			out = append(out, n.Name)
		}
	}
	return strings.Join(out, " ")
}

func (s *site) addr(i int) string { return strings.TrimSuffix(s.lab.Nodes()[i].Addr, ":22") }

// TestOtherInventoriesOverSSH reaches nodes by inventories that are not in our own form.
func TestOtherInventoriesOverSSH(t *testing.T) {
	s := newSite(t, 3)
	addRoute := func(inv, nodes, dst string) []string {
		return append(addRouteArgs("run")[:2:2], "dst="+dst, "via=10.98.0.1", "-i", inv, "-n", nodes, "--yes")
	}
	reach := fmt.Sprintf("ansible_ssh_private_key_file: %q\nansible_ssh_common_args: -F none -C -o UserKnownHostsFile=%s\n", s.lab.KeyFile(), s.lab.KnownHosts())

	t.Run("ansible", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		// One node as root, one as an operator with sudo, one by way of the first.
		s.write("hosts.ini", fmt.Sprintf("[edge]\nnode-1 ansible_host=%s\n[core]\nnode-2 ansible_host=\"{{ address }}\" address=%s\nnode-3 ansible_host=%s ansible_ssh_extra_args='-J root@%s'\n[site:children]\nedge\ncore\n",
			s.addr(0), s.addr(1), s.addr(2), s.addr(0)), 0o600)
		s.write("group_vars/all.yml", "---\nansible_user: root\n"+reach, 0o600)
		s.write("group_vars/core.yml", "ansible_user: operator-of-nobody\nansible_become: yes\n", 0o600)
		s.write("host_vars/node-2/reach.yml", "ansible_user: "+lab.Operator+"\n", 0o600)
		s.write("host_vars/node-3.json", `{"ansible_user": "root"}`, 0o600)
		s.runbook(0, []string{"nodes", "-i", "hosts.ini"}, "node-1  edge,site  yes", "node-2  core,site  yes", "node-3  core,site  yes", "kernel", "3 of 3 nodes answer")
		s.runbook(0, addRoute("hosts.ini", "core", "10.20.0.0/16"), "2 done")
		if got := s.routes("10.20.0.0/16"); got != "node-2 node-3" {
			t.Errorf("the route is on %q", got)
		}
		s.runbook(0, append(addRoute("hosts.ini", "site", "10.21.0.0/16"), "--limit-to", "34%"), "2 done")
		if got := s.routes("10.21.0.0/16"); got != "node-1 node-2" {
			t.Errorf("the route is on %q", got)
		}
	})
	t.Run("script", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.write("scripts/list", fmt.Sprintf("#!/bin/sh\necho '{\"edge\": [\"node-1\"], \"_meta\": {\"hostvars\": {\"node-1\": {\"ansible_host\": \"%s\"}}}}'\n", s.addr(0)), 0o700)
		s.write("scripts/group_vars/edge", "ansible_user: root\n"+reach, 0o600)
		s.runbook(0, addRoute("scripts/list", "all", "10.22.0.0/16"), "1 done")
		// An inventory of our own form that adds to it: another user, by sudo.
		s.write("over.yaml", "from: scripts/list\nnodes: {node-1: {ssh: {user: "+lab.Operator+"}, become: sudo}}\n", 0o600)
		s.runbook(0, addRoute("over.yaml", "edge", "10.23.0.0/16"), "1 done")
		if got := s.routes("10.22.0.0/16") + s.routes("10.23.0.0/16"); got != "node-1node-1" {
			t.Errorf("the routes are on %q", got)
		}
	})
	t.Run("ssh_config", func(t *testing.T) {
		s := &site{t, s.lab, s.dir}
		s.write("ssh.conf", fmt.Sprintf("Host alias-1\n  HostName %s\nHost alias-3\n  HostName %s\n  ProxyJump alias-1\nHost *\n  User root\n  IdentityFile %s\n  UserKnownHostsFile %s\n",
			s.addr(0), s.addr(2), s.lab.KeyFile(), s.lab.KnownHosts()), 0o600)
		s.runbook(0, addRoute("ssh_config:ssh.conf", "alias-3", "10.24.0.0/16"), "1 done")
		if got := s.routes("10.24.0.0/16"); got != "node-3" {
			t.Errorf("the route is on %q", got)
		}
		s.runbook(0, []string{"undo", "--yes", s.newest()}, "1 done") // from its record, by the same file
		if got := s.routes("10.24.0.0/16"); got != "" {
			t.Errorf("the route is still on %q", got)
		}
	})
}

// newest is the id of the newest run.
func (s *site) newest() string {
	s.Helper()
	out, err := s.command("runs").Output()
	if err != nil {
		s.Fatal(err)
	}
	id, _, _ := strings.Cut(string(out), " ")
	return id
}
