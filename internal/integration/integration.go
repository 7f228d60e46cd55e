// Package integration guards the tests that need more than Go: root, a kernel
// with namespaces, programs such as ip or sshd.
//
// Where something is missing, such a test is skipped by name. Where
// RUNBOOK_REQUIRE_INTEGRATION=1 is set, as in continuous integration, it fails
// instead: a suite that quietly skips what matters is green for nothing.
package integration

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// RequireVar is the environment variable that makes a missing need a failure.
const RequireVar = "RUNBOOK_REQUIRE_INTEGRATION"

// PostgresVar is the environment variable that names the folder of the programs of the Postgres to test with.
const PostgresVar = "RUNBOOK_TEST_POSTGRES"

// Need ends the test unless every one of needs is met: "root" for the user,
// "postgres" for a server that StartPostgres can start, any other word for a program (see [Path]).
func Need(t testing.TB, needs ...string) {
	t.Helper()
	for _, n := range needs {
		if err := missing(n); err != nil {
			Missing(t, "%v", err)
		}
	}
}

// Missing ends the test because something else that it needs is not there: as
// skipped, or as failed where integration tests are required.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	if os.Getenv(RequireVar) == "1" {
		t.Fatalf("%s=1, but %s", RequireVar, why)
	}
	t.Skip(why)
}

func missing(need string) error {
	if need == "root" {
		if os.Geteuid() != 0 {
			return fmt.Errorf("this test needs root")
		}
		return nil
	}
	if need == "postgres" {
		_, err := PostgresBin()
		return err
	}
	_, err := Path(need)
	return err
}

// PostgresBin is the folder of Postgres's programs: the one named by [PostgresVar], or where Debian puts
// them, which is in nobody's PATH, or where initdb is found.
func PostgresBin() (string, error) {
	if dir := os.Getenv(PostgresVar); dir != "" {
		_, err := exec.LookPath(filepath.Join(dir, "initdb"))
		return dir, err
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // 9.6 before 15
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	return "", fmt.Errorf("this test needs Postgres, which is not installed")
}

// Path returns where the program called name lies. It also looks where
// programs for administrators lie, which a user's PATH often leaves out: sshd
// must even be started by its full path.
func Path(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("this test needs the program %s, which is not installed", name)
}
