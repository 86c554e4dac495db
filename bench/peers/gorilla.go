// gorilla/websocket of Debian's Go packages as a heartbeat server.
//
//	gorilla PORT TIMEOUT_S      0: no peer is evicted
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{
	// Small, and its own: with 0 the connection would keep net/http's two buffers of 4 KiB.
	ReadBufferSize: 512,
	// A connection has a write buffer only while it writes a message.
	WriteBufferSize: 512,
	WriteBufferPool: &sync.Pool{},
	// EnableCompression is false by default.
}

func serve(connection *websocket.Conn, timeout time.Duration) {
	defer connection.Close()
	// Any ping or message is life: the way that the library's documentation shows for pongs.
	heard := func() {
		if timeout > 0 {
			connection.SetReadDeadline(time.Now().Add(timeout))
		}
	}
	heard()
	connection.SetPingHandler(func(data string) error {
		heard()
		deadline := time.Now().Add(time.Second)
		return connection.WriteControl(websocket.PongMessage, []byte(data), deadline)
	})
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		heard()
		if connection.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "gorilla: give PORT and TIMEOUT_S")
		os.Exit(2)
	}
	seconds, _ := strconv.Atoi(os.Args[2])
	timeout := time.Duration(seconds) * time.Second
	runtime.GOMAXPROCS(1) // it has one core
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gorilla:", err)
		os.Exit(1)
	}
	fmt.Println("listening")
	http.Serve(listener, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		connection, err := upgrader.Upgrade(out, in, nil)
		if err == nil {
			go serve(connection, timeout) // this one ends, and frees what net/http held for it
		}
	}))
}
