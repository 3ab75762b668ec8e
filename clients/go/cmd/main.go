// The command behind clients/go/run.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"countersign"
)

const usage = `usage: run sign METHOD PATH TIMESTAMP NONCE [BODYFILE]    prints X-Signature
       run METHOD URL [BODYFILE]                          signs, sends, prints the body; exit 0 for 2xx, else 1

COUNTERSIGN_KEY         the private key: PKCS#8 PEM, or the file that holds it
COUNTERSIGN_MACHINE_ID  the machine's id
COUNTERSIGN_QUERY       strip: leave the query unsigned; else it is signed
`

func main() {
	good, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
	}
	if !good {
		os.Exit(1)
	}
}

func run(words []string) (bool, error) {
	signing := len(words) > 0 && words[0] == "sign"
	least := 2
	if signing {
		words, least = words[1:], 4
	}
	named := os.Getenv("COUNTERSIGN_KEY")
	if len(words) < least || len(words) > least+1 || named == "" {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(64)
	}
	text := []byte(named)
	if !strings.Contains(named, "-----BEGIN") {
		var err error
		if text, err = os.ReadFile(named); err != nil {
			return false, err
		}
	}
	key, err := countersign.ParseKey(text)
	if err != nil {
		return false, err
	}
	var body []byte
	if len(words) > least {
		if body, err = os.ReadFile(words[least]); err != nil {
			return false, err
		}
	}
	if signing {
		fmt.Println(countersign.Sign(key, words[0], words[1], words[2], words[3], body))
		return true, nil
	}
	transport := &countersign.Transport{
		MachineID: os.Getenv("COUNTERSIGN_MACHINE_ID"),
		Key:       key,
		PathOnly:  os.Getenv("COUNTERSIGN_QUERY") == "strip",
	}
	request, err := http.NewRequest(words[0], words[1], bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	client := http.Client{Transport: transport, Timeout: time.Minute}
	answer, err := client.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	received, err := io.ReadAll(answer.Body)
	good := answer.StatusCode >= 200 && answer.StatusCode < 300
	if good {
		os.Stdout.Write(received)
	} else if len(received) > 0 {
		os.Stderr.Write(received)
	} else {
		fmt.Fprintln(os.Stderr, "HTTP", answer.StatusCode)
	}
	return good && err == nil, err
}
