// Uploads with Go's net/http: upload URL COUNT SIZE 1.1|2
//
// Prints a line for each upload: the status and the body of the answer, or "lost" and why there was none.
// Headers are the lines of $UPLOAD_HEADERS; $SSL_CERT_FILE is the authority of the server's certificate.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	url, version := os.Args[1], os.Args[4]
	count, _ := strconv.Atoi(os.Args[2])
	size, _ := strconv.Atoi(os.Args[3])
	body := make([]byte, size)
	for i := 0; i < count; i++ {
		status, text, err := upload(url, version, body)
		if err != nil {
			fmt.Println("lost", err)
		} else {
			fmt.Println(status, text)
		}
	}
}

// One upload on a connection of its own.
func upload(url, version string, body []byte) (int, string, error) {
	transport := &http.Transport{ForceAttemptHTTP2: version == "2"}
	if version == "1.1" {
		// A map, if an empty one, keeps HTTP/2 out of what the client offers.
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	client := http.Client{Transport: transport, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for _, line := range strings.Split(os.Getenv("UPLOAD_HEADERS"), "\n") {
		if name, value, found := strings.Cut(line, ": "); found {
			request.Header.Set(name, value)
		}
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	if strings.HasPrefix(url, "https:") && !strings.HasPrefix(answer.Proto, "HTTP/"+version) {
		return 0, "", fmt.Errorf("spoke %s", answer.Proto)
	}
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}
