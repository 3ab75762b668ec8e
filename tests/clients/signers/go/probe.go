// What an application may do with the signer for Go: probe CASE URL, with the key in $COUNTERSIGN_KEY.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"countersign"
)

var client *http.Client

func main() {
	what, url := os.Args[1], os.Args[2]
	text, err := os.ReadFile(os.Getenv("COUNTERSIGN_KEY"))
	must(err)
	key, err := countersign.ParseKey(text)
	must(err)
	transport := &countersign.Transport{MachineID: "web-1", Key: key}
	client = &http.Client{Transport: transport, Timeout: time.Minute}
	switch what {
	case "many":
		many(url)
	case "twice":
		request := post(url, strings.NewReader("body"))
		for i := 0; i < 2; i++ {
			fmt.Println(told(request))
			request.Body, err = request.GetBody()
			must(err)
		}
		if len(request.Header) > 0 {
			fmt.Println("the caller's request was changed:", request.Header)
		}
	case "streamed":
		body := &closing{Reader: strings.NewReader("body")}
		fmt.Println(told(post(url, body)))
		fmt.Println("closed:", body.closed)
		transport.Key = nil
		fmt.Println(told(post(url, nil)))
	case "kinds":
		for _, body := range []io.Reader{strings.NewReader("text"), bytes.NewReader([]byte{0, 255}),
			bytes.NewBufferString("buffer"), strings.NewReader(""), http.NoBody, nil} {
			fmt.Println(told(post(url, body)))
		}
	case "redirected":
		fmt.Println(told(post(url, strings.NewReader("body"))))
	}
}

func many(url string) {
	var group sync.WaitGroup
	var lock sync.Mutex
	seen := map[string]bool{}
	for worker := 0; worker < 20; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < 10; i++ {
				request, err := http.NewRequest("", url, nil)
				must(err)
				answer := told(request)
				lock.Lock()
				seen[answer] = true
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	answers := []string{}
	for answer := range seen {
		answers = append(answers, answer)
	}
	sort.Strings(answers)
	fmt.Println(strings.Join(answers, ","))
}

func post(url string, body io.Reader) *http.Request {
	request, err := http.NewRequest("POST", url, body)
	must(err)
	return request
}

func told(request *http.Request) string {
	answer, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	must(err)
	return fmt.Sprint(answer.StatusCode)
}

// closing is a body that net/http knows nothing of, and that notes whether it was closed.
type closing struct {
	io.Reader
	closed bool
}

func (it *closing) Close() error {
	it.closed = true
	return nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
