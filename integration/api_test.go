package integration

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestAPIOnSite serves the API on a site, behind a login.
func TestAPIOnSite(t *testing.T) {
	hash, err := exec.Command(Program(t), "hash-password", "--plaintext", "secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := StartText(t, `{$SITE}
presence /ws
handle /push/* {
	basic_auth {
		backend `+strings.TrimSpace(string(hash))+`
	}
	presence_api /push
}
respond "the site"
`)
	ann := c.Dial("/ws")
	ann.Open(`"id":7`)
	call := func(method, path, body, user string, headers ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, c.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		req.SetBasicAuth(user, "secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(answer)
	}
	if status, answer := call("POST", "/push/push", `{"to":{"ids":[7]},"text":"x"}`, "backend"); status != 200 || !strings.Contains(answer, `"sent":1`) {
		t.Errorf("the push: %d, %s", status, answer)
	}
	ann.Expect("x")
	if status, answer := call("POST", "/push/hubs/default/push", "{\"to\":{\"ids\":[7]},\"text\":\"y\"}\n{", "backend", "Content-Type", "application/x-ndjson"); status != 200 || !strings.Contains(answer, `"sent":1`) || !strings.Contains(answer, `"line":2`) {
		t.Errorf("the stream: %d, %s", status, answer)
	}
	ann.Expect("y")
	if status, _ := call("POST", "/push/push", `{}`, "eve"); status != 401 {
		t.Errorf("without a login: %d", status)
	}
	if status, answer := call("GET", "/push/nothing", "", "backend"); status != 404 || !strings.Contains(answer, `{"error"`) {
		t.Errorf("no call: %d, %s", status, answer)
	}
	if status, _ := call("POST", "/push/push", `{}`, "backend", "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("from a foreign page: %d", status)
	}
	if _, answer := call("GET", "/pushing", "", "backend"); answer != "the site" {
		t.Errorf("another path: %s", answer)
	}
}

// TestExposedAPI wants a configuration to be refused whose API anybody can use.
func TestExposedAPI(t *testing.T) {
	c := StartText(t, plain)
	const login = "basic_auth PATH {\n\ta $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n"
	for site, ok := range map[string]bool{
		"presence_api /push":                                                                          false,
		"bind 127.0.0.1\npresence_api /push":                                                          true,
		"bind 127.0.0.1 0.0.0.0\npresence_api /push":                                                  false,
		"handle /push/* {\n\tpresence_api /push\n}":                                                   false,
		"respond /x ok\nheader X-Y z\npresence_api /push":                                             false,
		login + "presence_api /push":                                                                  true,
		strings.Replace(login, "PATH", "/push/*", 1) + "presence_api /push":                           true,
		strings.Replace(login, "PATH", "/admin/*", 1) + "presence_api /push":                          false,
		"handle /admin/* {\n" + login + "}\nhandle {\n\tpresence_api\n}":                              false,
		"route {\n\tpresence_api /push\n" + login + "}":                                               false,
		"forward_auth 127.0.0.1:1 {\n\turi /auth\n}\npresence_api":                                    true,
		"reverse_proxy /x 127.0.0.1:1\npresence_api":                                                  false,
		"@in remote_ip private_ranges\nhandle @in {\n\tpresence_api /push\n}":                         true,
		"@in remote_ip private_ranges\nroute {\n\theader @in A b\n\tpresence_api /push\n}":            false,
		"@out not remote_ip private_ranges\nroute {\n\trespond @out 403\n\tpresence_api /push\n}":     true,
		strings.Replace(login, "PATH", "/api/*", 1) + "handle_path /api/* {\n\tpresence_api /push\n}": true,
	} {
		site = strings.Replace(site, "basic_auth PATH", "basic_auth", 1)
		out, err := c.TryReload(WriteFile(t, "Caddyfile", "{$SITE}\n"+site+"\n"))
		if (err == nil) != ok {
			t.Errorf("%s\nis refused: %t\n%s", site, err != nil, out)
		}
		if err != nil && !strings.Contains(out, "nothing stands in front of the API") {
			t.Errorf("%s\nis refused with %s", site, out)
		}
	}
	c.ExpectLog("nothing stands in front of the API")
}
