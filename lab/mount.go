//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// This file makes what a node sees of the machine's files: everything, to look
// at only, and memory of its own where programs write.

// sealMounts makes every mount of this mount namespace private, so that nothing
// done here reaches another, and read-only.
func sealMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("making / read-only (Linux 5.12 or later can): %w", err)
	}
	return nil
}

// mountNode gives the node its own view. It rests on the holder's sealed mounts,
// of which a node starts with a copy.
func mountNode(c nodeConfig) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, m := range []struct{ dir, mode string }{
		{"/tmp", "1777"}, {"/var", "755"}, {"/run", "755"}, {"/root", "700"}, {"/home", "755"},
	} {
		if err := mountTmpfs(m.dir, m.mode); err != nil {
			return err
		}
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/sys: %w", err)
	}
	// These take things over from what they cover, so they are made elsewhere first.
	if err := stage("/dev", fillDev); err != nil {
		return err
	}
	if err := stage("/etc", func(dir string) error { return fillEtc(dir, c) }); err != nil {
		return err
	}
	return fillHomes(c)
}

// mountTmpfs covers dir with memory. What dir points to, where it is a link into
// a part that is covered already, is made first.
func mountTmpfs(dir, mode string) error {
	if to, err := os.Readlink(dir); err == nil {
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(dir), to)
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size=256m,mode="+mode); err != nil {
		return fmt.Errorf("a tmpfs on %s: %w", dir, err)
	}
	return nil
}

// stage fills a tmpfs in /tmp, then moves it onto dir.
func stage(dir string, fill func(string) error) error {
	at := "/tmp/.lab" + filepath.Base(dir)
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID)
	if err := unix.Mount("tmpfs", at, "tmpfs", flags, "size=64m,mode=755"); err != nil {
		return fmt.Errorf("a tmpfs on %s: %w", dir, err)
	}
	if err := fill(at); err != nil {
		return err
	}
	if err := unix.Mount(at, dir, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving %s into place: %w", dir, err)
	}
	return os.Remove(at)
}

// mountProc shows this process's PID namespace. Outside net, its sysctls are the
// machine's own, as are the other parts that are made read-only here.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for _, p := range []string{"sys", "bus", "fs", "irq", "sysrq-trigger"} {
		p = "/proc/" + p
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := bindSelf(p); err != nil {
			return err
		}
		if p == "/proc/sys" {
			if err := bindSelf("/proc/sys/net"); err != nil {
				return err
			}
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, p, 0, &attr); err != nil {
			return fmt.Errorf("making %s read-only: %w", p, err)
		}
	}
	return nil
}

func bindSelf(p string) error { return bind(p, p) }

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", from, err)
	}
	return nil
}

// fillDev makes a /dev with no disk, console or memory in it.
func fillDev(dir string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, nil, 0o666); err != nil {
			return err
		}
		if err := bind("/dev/"+name, to); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, m := range []struct{ name, kind, data string }{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"}, // 5 is tty on every distribution
		{"shm", "tmpfs", "size=64m,mode=1777"},
	} {
		to := filepath.Join(dir, m.name)
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, to, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, m.data); err != nil {
			return fmt.Errorf("/dev/%s: %w", m.name, err)
		}
	}
	return nil
}
