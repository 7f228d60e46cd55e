//go:build linux

package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// This file writes a node's own files: /etc, the homes, and what sshd and sudo need.

// copied is what a node's /etc has of the machine's. Secrets are not among it,
// nor is anything that makes a program talk to the network or to D-Bus.
var copied = []string{
	"os-release", "debian_version", "redhat-release", "alpine-release", "lsb-release",
	"nsswitch.conf", "host.conf", "gai.conf", "protocols", "services", "networks", "ethertypes", "iproute2",
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-x86_64.path", "ld-musl-aarch64.path",
	"localtime", "timezone", "locale.conf", "locale.alias", "login.defs", "environment", "shells",
	"profile", "profile.d", "bash.bashrc", "bashrc", "inputrc", "skel", "sysctl.conf", "sysctl.d",
	"pam.conf", "pam.d", "security", "authselect",
}

// shown is what a node's /etc has of the machine's that is too large to copy.
var shown = []string{"alternatives", "ca-certificates", "crypto-policies", "pki", "ssh/moduli", "ssl/certs", "ssl/openssl.cnf", "terminfo"}

const sshdPath = "/usr/sbin/sshd"

// nodePath is the PATH of what runs in a node.
const nodePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// operatorID is the user and group id of Operator, unless the machine uses it.
const operatorID = 2000

func fillEtc(dir string, c nodeConfig) error {
	for _, name := range copied {
		if err := copyTree(filepath.Join("/etc", name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range shown {
		if err := show(filepath.Join("/etc", name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Symlink("../proc/self/mounts", filepath.Join(dir, "mtab")); err != nil {
		return err
	}
	hostKey, err := privateKeyPEM(c.HostKey, nodeName(c.Index))
	if err != nil {
		return err
	}
	var machine [16]byte // another one than those of the nodes that had this name before
	rand.Read(machine[:])
	for _, f := range append(accounts(), []file{
		{"hostname", 0o644, nodeName(c.Index) + "\n"},
		{"machine-id", 0o444, hex.EncodeToString(machine[:]) + "\n"},
		{"hosts", 0o644, hosts(c.Nodes)},
		{"resolv.conf", 0o644, "# a lab has no name server\n"},
		{"motd", 0o644, ""},
		{"sudoers", 0o440, sudoers},
		{"sudoers.d/README", 0o440, "# files here are read by sudo\n"},
		// The machine's own policy may ask servers, or D-Bus, that a node has not.
		{"pam.d/sudo", 0o644, pamPermit},
		{"pam.d/sudo-i", 0o644, pamPermit},
		{"ssh/sshd_config", 0o600, sshdConfig(c)},
		{"ssh/ssh_host_ed25519_key", 0o600, hostKey},
	}...) {
		if err := f.write(dir); err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	name string
	mode fs.FileMode
	text string
}

func (f file) write(dir string) error {
	name := filepath.Join(dir, f.name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	os.Remove(name) // what was copied may be a link to somewhere else
	return os.WriteFile(name, []byte(f.text), f.mode)
}

// accounts are the machine's users and groups, with no passwords, and Operator.
func accounts() []file {
	passwd, group := lines("/etc/passwd"), lines("/etc/group")
	isOperator := func(l string) bool { return strings.HasPrefix(l, Operator+":") }
	passwd, group = slices.DeleteFunc(passwd, isOperator), slices.DeleteFunc(group, isOperator)
	id := operatorID
	taken := func(l string) bool {
		f := strings.Split(l, ":")
		return len(f) > 2 && f[2] == strconv.Itoa(id)
	}
	for slices.ContainsFunc(passwd, taken) || slices.ContainsFunc(group, taken) {
		id++
	}
	passwd = append(passwd, fmt.Sprintf("%s:x:%d:%d:lab operator:/home/%s:/bin/sh", Operator, id, id, Operator))
	group = append(group, fmt.Sprintf("%s:x:%d:", Operator, id))

	var shadow []string // "*" is no password; "!" would be a locked account, which sshd refuses
	for _, l := range passwd {
		if name, _, ok := strings.Cut(l, ":"); ok {
			shadow = append(shadow, name+":*:19000:0:99999:7:::")
		}
	}
	text := func(l []string) string { return strings.Join(l, "\n") + "\n" }
	return []file{{"passwd", 0o644, text(passwd)}, {"group", 0o644, text(group)}, {"shadow", 0o600, text(shadow)}}
}

func lines(name string) []string {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return l == "" })
}

func hosts(nodes int) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&b, "%s %s\n", address(mgmtNet, i+1).Addr(), nodeName(i))
	}
	return b.String()
}

const sudoers = `Defaults env_reset
Defaults secure_path="` + nodePath + `"
root ALL=(ALL:ALL) ALL
` + Operator + ` ALL=(ALL:ALL) NOPASSWD: ALL
#includedir /etc/sudoers.d
`

const pamPermit = `auth    required pam_permit.so
account required pam_permit.so
session required pam_permit.so
`

// sshdConfig lets in the lab's key only, many times at once. A node's sshd
// trusts nothing of the machine's own configuration.
func sshdConfig(c nodeConfig) string {
	s := `Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
AllowUsers ` + User + ` ` + Operator + `
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile .ssh/authorized_keys
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
MaxStartups 1000
MaxSessions 1000
LoginGraceTime 30
LogLevel FATAL
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
`
	if c.Penalties {
		s += "PerSourcePenalties no\n" // a lab has one source, the holder
	}
	return s
}

// fillHomes makes what programs expect in the covered folders, and the homes.
func fillHomes(c nodeConfig) error {
	for _, dir := range []string{
		"/run/lock", "/run/sshd", "/var/cache", "/var/empty/sshd", "/var/lib", "/var/log", "/var/spool", "/var/tmp",
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod("/var/tmp", 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for to, link := range map[string]string{"/run": "/var/run", "/run/lock": "/var/lock"} {
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	id, err := operator()
	if err != nil {
		return err
	}
	home := "/home/" + Operator
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	for _, h := range []struct {
		dir string
		id  int
	}{{"/root", 0}, {home, id}} {
		key := file{".ssh/authorized_keys", 0o600, c.ClientKey}
		if err := key.write(h.dir); err != nil {
			return err
		}
		for _, p := range []string{"", ".ssh", ".ssh/authorized_keys"} {
			if err := os.Chown(filepath.Join(h.dir, p), h.id, h.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// operator returns the id that [accounts] gave to Operator.
func operator() (int, error) {
	for _, l := range lines("/etc/passwd") {
		if f := strings.Split(l, ":"); f[0] == Operator && len(f) > 2 {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("/etc/passwd has no %s", Operator)
}

// privateKeyPEM is the key that grows from seed, as OpenSSH keeps it.
func privateKeyPEM(seed []byte, comment string) (string, error) {
	block, err := ssh.MarshalPrivateKey(ed25519.NewKeyFromSeed(seed), comment)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(block)), nil
}

// publicKeyLine is the public key that grows from seed, as in authorized_keys.
func publicKeyLine(seed []byte) (string, error) {
	k, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(k)), "\n"), nil
}

// show binds what is at from, if anything is, read-only as all of the machine.
func show(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return nil
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		err = file{to, 0o644, ""}.write("/")
	}
	if err != nil {
		return err
	}
	return bind(from, to)
}

// copyTree copies what is at from, if anything is: files, folders and links,
// with their modes and owners.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == from {
				return nil // the machine has none
			}
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return copyOne(p, filepath.Join(to, rel), info)
	})
}

func copyOne(from, to string, info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case info.IsDir():
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		if err := copyFile(from, to); err != nil {
			return err
		}
	default:
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(to, info.Mode())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
