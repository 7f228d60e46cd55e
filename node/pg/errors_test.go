//go:build linux

package pg

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"runbook/engine"
	"runbook/engine/resource"
)

// password is what no error shows.
const password = "hunter2-secret"

// fails wants server to say what is wrong, in words that match, and nothing of a password.
func fails(t *testing.T, server string, code engine.Code, words string) {
	t.Helper()
	s, err := Open(server, nil)
	if err == nil {
		defer s.Close()
		_, err = s.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres}})
	}
	judge(t, err, code, words)
}

func judge(t *testing.T, err error, code engine.Code, words string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it works, and should say %q", words)
	}
	e := engine.AsError(err)
	if e.Code != code || !regexp.MustCompile(words).MatchString(err.Error()) {
		t.Errorf("got code %d: %v\nwant %d: %s", e.Code, err, code, words)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", *e), e.Hint} {
		if strings.Contains(text, password) || strings.Contains(text, "hunter2") {
			t.Errorf("it shows the password: %s", text)
		}
	}
}

func TestDSNs(t *testing.T) {
	dir := t.TempDir()
	services := filepath.Join(dir, "services")
	os.WriteFile(services, []byte("[main]\nhost=db-1\npassword="+password+"\n"), 0o600)
	t.Setenv("PGSERVICEFILE", services)
	for _, c := range []struct{ dsn, words string }{
		{"", "names no Postgres"},
		{"host=db-1 password=" + password, "has a password in it.*pgpass"},
		{"host=db-1 PASSWORD = '" + password + "'", "has a password in it"},
		{"host=db-1 sslpassword=" + password, "has a password in it"},
		{"postgres://u:" + password + "@db-1/x", "has a password in it"},
		{"postgres://u:@db-1/x", "has a password in it"},
		{"postgres://db-1/x?pass%77ord=" + password, "has a password in it"},
		{"postgres://db-1/x?sslmode=require&password=" + password, "has a password in it"},
		{"postgres://u:hun/ter2:hunter2@db-1/x", "has a password in it"},
		{"postgres://u:hun?ter2@db-1/x", "has a password in it"},
		{"postgres://u:hun#ter2@db-1/x", "has a password in it"},
		{"host='db-1'password=hunter2", "has a password in it"},
		{"host=db-1,password=hunter2", "has a password in it"},
		{"host=db-1 passwd=hunter2", "has a password in it"},
		{"postgres://db-1/x;password=hunter2", "has a password in it"},
		{"host=db-1 port=hunter2", "is no DSN that can be read"},
		{"host='db-1", "is no DSN that can be read"},
		{"host=db-1 options='-c work_mem=hunter2'", "has a word that no DSN here can have"},
		{"host=db-1 servicefile=/tmp/hunter2", "has a word that no DSN here can have"},
		{"service=other", `names service "other", and there is none`},
		{"host=db-1 sslmode=verify-full sslrootcert=/nowhere/ca.pem", "TLS settings of server do not work: .*no such file"},
		{"host=db-1 sslmode=very-full", "TLS settings of server do not work: sslmode is invalid\n.*prefer, require, verify-ca or verify-full"},
		{"host=db-1\nport=1", "line break"},
	} {
		_, err := Open(c.dsn, nil)
		judge(t, err, engine.Invalid, c.words)
	}
	for _, dsn := range []string{"service=main", "host=db-1,db-2 user=a dbname=b", "postgres://a@db-1:5432/b?sslmode=disable", "postgres://[::1]:5432/b", "host=/tmp application_name=x@y:z@w",
		"postgres://db-1:5432/b?application_name=x@y", "postgres://db-1:5432,db-2:5433/b?application_name=x@y", "postgres://[::1]:5432/b?application_name=x@y"} {
		if _, err := Open(dsn, nil); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	if ports, err := Ports("host=db-1,db-2 port=6543,5432 user=a"); err != nil || !slices.Equal(ports, []uint16{5432, 6543}) {
		t.Errorf("%v, %v", ports, err)
	}
	s, err := Open("service=main", nil)
	if err != nil || s.config.Password != password || s.config.Host != "db-1" {
		t.Errorf("%v, %v", s, err)
	}
}

// The server is called to account as it is: each of these is met by people every day.
func TestRefusals(t *testing.T) {
	p := own(t, "superuser_reserved_connections = 1", "max_connections = 4", "max_wal_senders = 0", "password_encryption = 'scram-sha-256'")
	admin := client(t, p.DSN(""))
	do(t, admin, "create role app login password '"+password+"'; create role nologin")
	hba := filepath.Join(p.Dir, "pg_hba.conf")
	os.WriteFile(hba, []byte("local all postgres trust\nlocal all all scram-sha-256\nhostssl all tls 127.0.0.1/32 trust\nhost all app 127.0.0.1/32 scram-sha-256\n"), 0o600)
	do(t, admin, "select pg_reload_conf()")
	passfile := filepath.Join(t.TempDir(), "pgpass")
	write := func(pw string) {
		os.WriteFile(passfile, []byte(fmt.Sprintf("*:*:*:*:%s\n", pw)), 0o600)
	}
	t.Setenv("PGPASSFILE", passfile)
	write(password)
	fails(t, p.DSN("dbname=nowhere"), engine.Unreachable, `Postgres .* has no database "nowhere"`)
	fails(t, strings.Replace(p.DSN("user=app"), "dbname=postgres", "", 1), engine.Unreachable, `has no database "app"\n.*dbname=NAME`)
	fails(t, p.DSN("user=nobody"), engine.Unreachable, `does not take the password of role nobody`) // it does not tell who there is
	fails(t, p.TCP("user=other"), engine.Unreachable, `lets nobody in as this: no pg_hba.conf entry for host "127.0.0.1", user "other"`)
	fails(t, p.TCP("user=tls"), engine.Unreachable, `lets nobody in as this: no pg_hba.conf entry .*(no encryption|SSL off)\n.*sslmode=require`)
	fails(t, p.TCP("user=tls sslmode=require"), engine.Unreachable, `has no TLS, and the DSN asks for it`)
	write(password)
	fails(t, strings.Replace(p.TCP("user=app target_session_attrs=standby"), "sslmode=disable", "", 1), engine.Unreachable, `is none that the DSN wants by its target_session_attrs: server is not in hot standby mode`)
	fails(t, fmt.Sprintf("host=127.0.0.1 port=%d user=a", freePort(t)), engine.Unreachable, `cannot be reached at 127.0.0.1:\d+: connection refused`)
	fails(t, "host=/nowhere user=a", engine.Unreachable, `cannot be reached at /nowhere/.s.PGSQL.5432: no such file or directory`)
	fails(t, "host=no-such-name.invalid user=a", engine.Unreachable, `cannot be found: there is no address of no-such-name.invalid`)
	write("wrong-" + password)
	fails(t, p.TCP("user=app"), engine.Unreachable, `does not take the password of role app\n.*pgpass`)
	os.Remove(passfile)
	fails(t, p.TCP("user=app"), engine.Unreachable, `wants a password of role app, and there is none`)
	write(password)

	warm := open(t, p.TCP("user=app")) // of four, one is reserved, and one admin's
	once(t, func() error {
		_, err := warm.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres}})
		return err
	})
	once(t, func() error {
		c, err := pgconn.Connect(t.Context(), p.TCP("user=app"))
		if err == nil {
			t.Cleanup(func() { c.Close(context.Background()) })
		}
		return err
	})
	fails(t, p.TCP("user=app"), engine.Unreachable, `is full: it has no connection left for role app`)
	read(t, warm, resource.Selector{Kind: resource.KindPostgres}) // the connection that was kept can still look

	p.Halt()
	_, err := warm.Read(t.Context(), resource.Query{{Kind: resource.KindPostgres}})
	judge(t, err, engine.Unreachable, `cannot be reached at 127.0.0.1:\d+: connection refused`)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	read(t, warm, resource.Selector{Kind: resource.KindPostgres}) // and is made again
}

// once does what works once those that were refused before have given their connections back, a little later than they are told.
func once(t *testing.T, do func() error) {
	t.Helper()
	err := do()
	for range 200 {
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
		err = do()
	}
	t.Fatal(err)
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTLS(t *testing.T) {
	ca, cert, key := certificate(t, "db.example")
	p := own(t)
	// What only its owner may read is put where it looks by itself.
	for file, text := range map[string][]byte{"server.crt": cert, "server.key": key} {
		if err := p.Write(file, text); err != nil {
			t.Fatal(err)
		}
	}
	p.Halt()
	if err := errors.Join(p.Append("postgresql.conf", "ssl = on"), p.Start()); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(root, ca, 0o600)
	other, _, _ := certificate(t, "db.example")
	wrong := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(wrong, other, 0o600)
	s := open(t, p.TCP("sslmode=verify-ca sslrootcert="+root))
	read(t, s, resource.Selector{Kind: resource.KindPostgres})
	fails(t, p.TCP("sslmode=verify-full sslrootcert="+root), engine.Unreachable, `shows a certificate that is not for its name: `)
	fails(t, p.TCP("sslmode=verify-ca sslrootcert="+wrong), engine.Unreachable, `shows a certificate that cannot be trusted`)
}

// certificate is one of a server called name, and of who has signed it.
func certificate(t *testing.T, name string) (ca, cert, key []byte) {
	t.Helper()
	pair := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, k := pair(), pair()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	rootDER, err1 := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, root, k.Public(), caKey)
	keyDER, err3 := x509.MarshalECPrivateKey(k)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", rootDER), block("CERTIFICATE", leafDER), block("EC PRIVATE KEY", keyDER)
}

// A version that nobody has here any more: what is at the other end says that it is one.
func TestTooOld(t *testing.T) {
	fails(t, saying(t, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x"), DataTypeOID: oidJSON}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte(`{"version":120022,"pid":7,"start":"2026-01-01T00:00:00Z"}`)}}), engine.Unreachable, `is of version 12.22, which is too old: 13 is the oldest`)
	fails(t, saying(t), engine.Unreachable, "the server does not say what it is")
}

// saying is the DSN of what lets everybody in as a Postgres 12 does, and says this to the first that it is asked.
func saying(t *testing.T, what ...pgproto3.BackendMessage) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := pgproto3.NewBackend(c, c)
		b.ReceiveStartupMessage()
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "12.22"})
		b.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{0, 0, 0, 1}})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		b.Flush()
		if _, err := b.Receive(); err != nil {
			return
		}
		for _, m := range append(what, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}) {
			b.Send(m)
		}
		b.Flush()
		b.Receive() // until it has gone
	}()
	return fmt.Sprintf("host=127.0.0.1 port=%d user=a sslmode=disable", l.Addr().(*net.TCPAddr).Port)
}

// What answers may be something else, such as a web server or a proxy.
func TestNoPostgres(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 100))
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	fails(t, fmt.Sprintf("host=127.0.0.1 port=%d user=a sslmode=disable", l.Addr().(*net.TCPAddr).Port), engine.Unreachable,
		`is no Postgres: what answers at 127.0.0.1:\d+ says something else\n.*another port, or a proxy`)
}

// A standby can be looked at, and its own settings and sessions changed.
func TestInRecovery(t *testing.T) {
	p := own(t, "hot_standby = on")
	p.Halt()
	if err := p.Start(); err != nil { // after the crash, so that it has nothing more to replay
		t.Fatal(err)
	}
	p.Halt()
	if err := errors.Join(p.Write("standby.signal", nil), p.Start()); err != nil {
		t.Fatal(err)
	}
	s := open(t, p.DSN(""))
	if got := one[resource.Postgres](t, read(t, s, resource.Selector{Kind: resource.KindPostgres})); !got.InRecovery {
		t.Errorf("%+v", got)
	}
	apply(t, s, setting(t, s, "work_mem", func(c *resource.Setting) { c.Auto, c.Source, c.Value = to("8MB"), "configuration file", "8192" }))
	shop := client(t, p.TCP("application_name=shop"))
	apply(t, s, ending(t, s, resource.Where{Application: "shop"}))
	if alive(t, shop) {
		t.Error("the session lives on")
	}
	rows := one[resource.Rows](t, read(t, s, resource.Selector{Kind: resource.KindRows, Ask: "receiver"}))
	if len(rows.Rows) != 1 {
		t.Errorf("%+v", rows)
	}
}

// A statement that takes too long is ended by the server, and one whose caller has given up is
// canceled; the connection stays.
func TestTimeouts(t *testing.T) {
	p := shared(t)
	s := open(t, p.DSN(""))
	read(t, s, resource.Selector{Kind: resource.KindPostgres})
	kept := s.conn
	long, err := resource.AskSQL(resource.SQL{Query: "select count(*) from generate_series(1, 1000000000) a, generate_series(1, 1000) b"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Read(ctx, resource.Query{{Kind: resource.KindRows, Ask: long}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	was := statementWithin
	statementWithin = 200 * time.Millisecond
	defer func() { statementWithin = was }()
	_, err = s.Read(t.Context(), resource.Query{{Kind: resource.KindRows, Ask: long}})
	judge(t, err, engine.Unreachable, `has not answered within 200ms`)
	do(t, client(t, p.DSN("")), "create table if not exists locked(a int)")
	locker := client(t, p.DSN(""))
	do(t, locker, "begin; lock locked")
	statementWithin = was
	ask, _ := resource.AskSQL(resource.SQL{Query: "select * from locked"})
	_, err = s.Read(t.Context(), resource.Query{{Kind: resource.KindRows, Ask: ask}})
	judge(t, err, engine.Unreachable, `has something locked that was asked for, for longer than 2s`)
	read(t, s, resource.Selector{Kind: resource.KindPostgres})
	if s.conn != kept {
		t.Error("it is another connection")
	}
}
