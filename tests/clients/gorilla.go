// gorilla/websocket as a client: `gorilla URL DEFLATING_URL BEATING_URL`. stage.py
// reads its report.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	timeout         = 4 * time.Second // --heartbeat-timeout of the server that beats
	messageBytesMax = 1 << 20         // --max-message-bytes of all
	patience        = 30 * time.Second
)

var url, deflatingURL, beatingURL string

// A Peer is a connection whose methods panic where a check fails.
type Peer struct {
	*websocket.Conn
	response *http.Response
	began    time.Time
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(ok bool, format string, values ...any) {
	if !ok {
		panic(fmt.Sprintf(format, values...))
	}
}

func dial(address string, dialer websocket.Dialer, header http.Header) *Peer {
	began := time.Now()
	connection, response, err := dialer.Dial(address, header)
	must(err)
	connection.SetReadDeadline(time.Now().Add(patience))
	return &Peer{connection, response, began}
}

func open() *Peer { return dial(url, websocket.Dialer{}, nil) }

func (peer *Peer) next() (int, []byte) {
	kind, message, err := peer.ReadMessage()
	must(err)
	return kind, message
}

func (peer *Peer) echoes(kind int, message []byte) {
	must(peer.WriteMessage(kind, message))
	peer.hears(kind, message)
}

func (peer *Peer) hears(kind int, message []byte) {
	gotKind, got := peer.next()
	expect(gotKind == kind && bytes.Equal(got, message), "%d bytes of kind %d came for %d of %d",
		len(got), gotKind, len(message), kind)
}

// The server's close frame, past any messages before it.
func (peer *Peer) ending() *websocket.CloseError {
	for {
		_, _, err := peer.ReadMessage()
		if end, ok := err.(*websocket.CloseError); ok {
			return end
		}
		must(err)
	}
}

func (peer *Peer) closes(code int) {
	frame := websocket.FormatCloseMessage(code, "said by the client")
	must(peer.WriteControl(websocket.CloseMessage, frame, time.Now().Add(patience)))
	end := peer.ending()
	expect(end.Code == code, "closed with %d, answered %d", code, end.Code)
}

func echoesText() {
	peer := open()
	for _, text := range []string{"", "a", "héllo 世界 😀", strings.Repeat("x", 125),
		strings.Repeat("y", 126), strings.Repeat("é", 40000)} {
		peer.echoes(websocket.TextMessage, []byte(text))
	}
	peer.closes(1000)
}

func echoesBinary() {
	peer := open()
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536} {
		peer.echoes(websocket.BinaryMessage, bytes.Repeat([]byte{0, 255, 7}, size)[:size])
	}
	peer.closes(1000)
}

func echoesManyInOrder() {
	peer := open()
	text := func(i int) []byte { return []byte(fmt.Sprint(i, strings.Repeat(".", i%300))) }
	go func() {
		for i := 0; i < 2000; i++ {
			if peer.WriteMessage(websocket.TextMessage, text(i)) != nil {
				return
			}
		}
	}()
	for i := 0; i < 2000; i++ {
		peer.hears(websocket.TextMessage, text(i))
	}
	peer.closes(1000)
}

func echoesAMegabyte() {
	peer := open()
	peer.echoes(websocket.TextMessage, bytes.Repeat([]byte("m"), messageBytesMax))
	peer.echoes(websocket.BinaryMessage, bytes.Repeat([]byte{254, 0}, messageBytesMax/2))
	peer.closes(1000)
}

func refusesMoreWith1009() {
	peer := open()
	must(peer.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte("m"), messageBytesMax+1)))
	expect(peer.ending().Code == 1009, "it was not refused as too long")
}

// A write buffer of 16 bytes makes a frame of every 16.
func joinsFragments() {
	peer := dial(url, websocket.Dialer{WriteBufferSize: 16}, nil)
	for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
		writer, err := peer.NextWriter(kind)
		must(err)
		whole := []byte{}
		for i := 0; i < 100; i++ {
			piece := []byte(fmt.Sprintf("piece %d of 世界; ", i))
			whole = append(whole, piece...)
			_, err = writer.Write(piece)
			must(err)
			if i == 50 {
				must(peer.WriteControl(websocket.PingMessage, []byte("between"),
					time.Now().Add(patience)))
			}
		}
		pongs := 0
		peer.SetPongHandler(func(payload string) error { pongs++; return nil })
		must(writer.Close())
		peer.hears(kind, whole)
		expect(pongs == 1, "%d pongs came before the echo", pongs)
	}
	peer.closes(1000)
}

func answersPings() {
	peer := open()
	var heard []string
	peer.SetPongHandler(func(payload string) error { heard = append(heard, payload); return nil })
	sent := []string{"", "payload", strings.Repeat("p", 125)}
	for _, payload := range sent {
		must(peer.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(patience)))
	}
	peer.echoes(websocket.TextMessage, []byte("after them"))
	expect(fmt.Sprint(heard) == fmt.Sprint(sent), "heard %q", heard)
	peer.closes(1000)
}

func answersCloseCodes() {
	for _, code := range []int{1000, 1001, 1003, 1011, 3000, 4000, 4999} {
		open().closes(code)
	}
	peer := open()
	must(peer.WriteControl(websocket.CloseMessage, nil, time.Now().Add(patience)))
	expect(peer.ending().Code == websocket.CloseNoStatusReceived, "a code came for none")
}

func refusesBadCloseCodesWith1002() {
	for _, code := range []string{"\x03\xed", "\x03\xee", "\x00\x00", "\x13\x88", "\x03"} {
		peer := open()
		must(peer.WriteControl(websocket.CloseMessage, []byte(code), time.Now().Add(patience)))
		expect(peer.ending().Code == 1002, "close code %x was taken", code)
	}
}

func refusesBadUTF8With1007() {
	peer := open()
	must(peer.WriteMessage(websocket.TextMessage, []byte{'a', 0xc3, 0x28}))
	expect(peer.ending().Code == 1007, "it was not refused as bad UTF-8")
}

func refusesAnUnmaskedFrameWith1002() {
	peer := open()
	_, err := peer.UnderlyingConn().Write([]byte{0x81, 1, 'a'})
	must(err)
	expect(peer.ending().Code == 1002, "it was not refused as unmasked")
}

func speaksPulseV1JSON() {
	peer := dial(url, websocket.Dialer{Subprotocols: []string{"other.v2", "pulse.v1.json"}}, nil)
	expect(peer.Subprotocol() == "pulse.v1.json", "agreed on %q", peer.Subprotocol())
	must(peer.WriteJSON(map[string]string{"type": "hello", "user": "u1", "device": "go"}))
	var welcome struct {
		Type, Conn string
		Interval   int `json:"interval_ms"`
		Timeout    int `json:"timeout_ms"`
	}
	must(peer.ReadJSON(&welcome))
	expect(welcome.Type == "welcome" && welcome.Interval == 30000 && welcome.Timeout == 90000 &&
		regexp.MustCompile(`^r\d+-\d{6}-\d+$`).MatchString(welcome.Conn), "%+v", welcome)
	must(peer.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping","seq":7,"ts":1.5}`)))
	_, pong := peer.next()
	var fields map[string]any
	must(json.Unmarshal(pong, &fields))
	expect(fmt.Sprint(fields) == "map[seq:7 ts:1.5 type:pong]", "%v", fields)
	must(peer.WriteMessage(websocket.TextMessage, []byte("PING")))
	peer.hears(websocket.TextMessage, []byte("PONG"))
	peer.closes(1000)
}

func goesOnWithoutACommonSubprotocol() {
	peer := dial(url, websocket.Dialer{Subprotocols: []string{"other.v2"}}, nil)
	expect(peer.Subprotocol() == "", "agreed on %q", peer.Subprotocol())
	peer.echoes(websocket.TextMessage, []byte("all the same"))
	peer.closes(1000)
}

func deflates() {
	peer := dial(deflatingURL, websocket.Dialer{EnableCompression: true}, nil)
	extensions := peer.response.Header.Get("Sec-Websocket-Extensions")
	expect(strings.HasPrefix(extensions, "permessage-deflate"), "agreed on %q", extensions)
	for _, message := range []string{"", "a", strings.Repeat("again and again ", 5000),
		strings.Repeat("m", messageBytesMax)} {
		peer.echoes(websocket.TextMessage, []byte(message))
		peer.echoes(websocket.BinaryMessage, []byte(message))
	}
	peer.EnableWriteCompression(false)
	peer.echoes(websocket.TextMessage, []byte(strings.Repeat("not compressed by me ", 1000)))
	peer.EnableWriteCompression(true)
	must(peer.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte("m"), messageBytesMax+1)))
	expect(peer.ending().Code == 1009, "it was not refused as too long")
}

func refusesOtherOrigins() {
	_, response, err := websocket.DefaultDialer.Dial(url,
		http.Header{"Origin": {"http://evil.example"}})
	expect(err == websocket.ErrBadHandshake && response.StatusCode == 403, "%v", err)
	peer := dial(url, websocket.Dialer{}, http.Header{"Origin": {"http://allowed.example"}})
	peer.echoes(websocket.TextMessage, []byte("from a page that may"))
	peer.closes(1000)
}

// The peers of the two below began before all others; each is read from its beginning.
var idle, deaf *Peer
var idlePings, deafPings int32
var idleEchoes, deafEnd = make(chan string, 1), make(chan *websocket.CloseError, 1)

func beginWaiting() {
	idle = dial(beatingURL, websocket.Dialer{}, nil)
	deaf = dial(beatingURL, websocket.Dialer{}, nil)
	answer := idle.PingHandler()
	idle.SetPingHandler(func(payload string) error {
		atomic.AddInt32(&idlePings, 1)
		return answer(payload)
	})
	deaf.SetPingHandler(func(string) error { atomic.AddInt32(&deafPings, 1); return nil })
	go func() {
		_, message, err := idle.ReadMessage()
		idleEchoes <- fmt.Sprintf("%s %v", message, err)
	}()
	go func() {
		_, _, err := deaf.ReadMessage()
		end, _ := err.(*websocket.CloseError)
		deafEnd <- end
	}()
}

func livesByAnsweringProbes() {
	time.Sleep(time.Until(idle.began.Add(timeout + 500*time.Millisecond)))
	must(idle.WriteMessage(websocket.TextMessage, []byte("still here")))
	heard := <-idleEchoes
	expect(heard == "still here <nil>", "%s", heard)
	expect(atomic.LoadInt32(&idlePings) >= 3, "probed %d times", idlePings)
	idle.closes(1000)
}

func isEvictedWhenItAnswersNoProbe() {
	end := <-deafEnd
	expect(end != nil && end.Code == 4003 && end.Text == "idle_timeout", "%v", end)
	expect(atomic.LoadInt32(&deafPings) >= 2, "probed %d times", deafPings)
	expect(time.Since(deaf.began) >= timeout, "let go early")
}

func hearsTheServerGo() {
	speaker := dial(url, websocket.Dialer{Subprotocols: []string{"pulse.v1.json"}}, nil)
	fmt.Println("DRAIN")
	var goodbye struct {
		Type       string
		Code       int
		RetryAfter int `json:"retry_after_ms"`
	}
	must(speaker.ReadJSON(&goodbye))
	expect(goodbye.Type == "goodbye" && goodbye.Code == 1001 && goodbye.RetryAfter > 0, "%+v",
		goodbye)
	end := speaker.ending()
	expect(end.Code == 1001 && strings.HasPrefix(end.Text, "going_away"), "%v", end)
}

func run(name string, check func()) {
	defer func() {
		if wrong := recover(); wrong != nil {
			fmt.Printf("FAILED %s: %v\n", name, wrong)
		} else {
			fmt.Println("ok", name)
		}
	}()
	check()
}

func main() {
	url, deflatingURL, beatingURL = os.Args[1], os.Args[2], os.Args[3]
	beginWaiting()
	run("echoes_text", echoesText)
	run("echoes_binary", echoesBinary)
	run("echoes_many_in_order", echoesManyInOrder)
	run("echoes_a_megabyte", echoesAMegabyte)
	run("refuses_more_with_1009", refusesMoreWith1009)
	run("joins_fragments", joinsFragments)
	run("answers_pings", answersPings)
	run("answers_close_codes", answersCloseCodes)
	run("refuses_bad_close_codes_with_1002", refusesBadCloseCodesWith1002)
	run("refuses_bad_utf8_with_1007", refusesBadUTF8With1007)
	run("refuses_an_unmasked_frame_with_1002", refusesAnUnmaskedFrameWith1002)
	run("speaks_pulse_v1_json", speaksPulseV1JSON)
	run("goes_on_without_a_common_subprotocol", goesOnWithoutACommonSubprotocol)
	run("deflates", deflates)
	run("refuses_other_origins", refusesOtherOrigins)
	run("lives_by_answering_probes", livesByAnsweringProbes)
	run("is_evicted_when_it_answers_no_probe", isEvictedWhenItAnswersNoProbe)
	run("hears_the_server_go", hearsTheServerGo)
	fmt.Println("DONE")
}
