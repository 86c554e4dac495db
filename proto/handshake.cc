// Requests and answers of the opening handshake, read and written.
#include "proto/handshake.h"

// OpenSSL 3 deprecates the digests beside EVP. EVP looks its provider up anew for each peer, in
// three allocations, and makes 1.7 MiB more of libcrypto resident, for a SHA-1 without a secret.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "proto/http_fields.h"
#include "proto/traceparent.h"

namespace pulse {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455 section 1.3
constexpr std::string_view kVersion = "13";
constexpr std::string_view kJsonSubprotocol = "pulse.v1.json";
constexpr std::string_view kBinarySubprotocol = "pulse.v1.binary";
constexpr std::string_view kBearerSubprotocol = "bearer.";
constexpr std::string_view kBearerScheme = "bearer ";
constexpr std::string_view kHealthPath = "/healthz";
constexpr std::string_view kGoingAway = "this server goes away: it takes no new clients";
constexpr size_t kKeyBytes = 24;  // base64 of 16
constexpr size_t kRequestPartsMax = 600;

constexpr std::string_view kWhatThisIs =
    "This port is Pulsewheel's: it holds connections and answers their heartbeats. Speak WebSocket "
    "to it (RFC 6455, version 13; subprotocols pulse.v1.json and pulse.v1.binary).";
constexpr std::string_view kUpgradeRequired =
    "This port speaks WebSocket, not plain HTTP: send GET with Upgrade: websocket, Connection: "
    "Upgrade, Sec-WebSocket-Version: 13 and Sec-WebSocket-Key.";

std::string_view status_text(uint16_t status) {
    switch (status) {
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 426:
            return "Upgrade Required";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 503:
            return "Service Unavailable";
        case 505:
            return "HTTP Version Not Supported";
        default:
            break;
    }
    PULSE_ASSERT(false && "a status that this server sends");
    return {};
}

std::string_view subprotocol_name(Subprotocol subprotocol) {
    switch (subprotocol) {
        case Subprotocol::json:
            return kJsonSubprotocol;
        case Subprotocol::binary:
            return kBinarySubprotocol;
        case Subprotocol::none:
            break;
    }
    return {};
}

// A head cut into its first line and its header lines.
class HeadLines {
  public:
    explicit HeadLines(std::string_view head) : rest_(head) {
        while (rest_.starts_with("\r\n")) rest_.remove_prefix(2);
    }
    // Without its CR LF; the empty line is the last.
    std::string_view next() {
        const size_t end = rest_.find("\r\n");
        PULSE_ASSERT(end != std::string_view::npos);
        const std::string_view line = rest_.substr(0, end);
        rest_.remove_prefix(end + 2);
        return line;
    }

  private:
    std::string_view rest_;
};

struct Refusal {
    uint16_t status = 0;  // 0: nothing to refuse
    std::string_view detail;
    bool none() const { return status == 0; }
};

// A field that may come once: its value, and how often it came.
struct Single {
    std::string_view value;
    uint32_t count = 0;
    void set(std::string_view text) {
        value = text;
        ++count;
    }
};

// What the header lines say that matters to a handshake, of either side.
struct HeadFields {
    Single host, key, version, origin, accept, content_length;
    Single token;  // of Authorization: Bearer, or of a subprotocol
    Single traceparent;
    bool transfer_encoding = false;
    bool upgrades_to_websocket = false;
    bool connection_upgrades = false;
    bool mentions_websocket = false;  // any Sec-WebSocket-... line
    bool subprotocols_malformed = false;
    uint32_t subprotocol_lines = 0;
    Subprotocol subprotocol = Subprotocol::none;  // the first that we know
    bool subprotocol_unknown = false;             // one that we do not know
    std::array<std::string_view, kHandshakeFieldsMax> extensions;
    size_t extension_lines = 0;
};

bool lists(std::string_view value, std::string_view wanted) {
    return !each_element(
        value, [&](std::string_view element) { return !equal_ignoring_case(element, wanted); });
}

void note_subprotocols(HeadFields& fields, std::string_view value) {
    ++fields.subprotocol_lines;
    bool any = false;
    const bool well_formed = each_element(value, [&](std::string_view element) {
        any = true;
        if (element.starts_with(kBearerSubprotocol)) {
            fields.token.set(element.substr(kBearerSubprotocol.size()));
            fields.subprotocol_unknown = true;
            return is_token(element);
        }
        const Subprotocol known = element == kJsonSubprotocol     ? Subprotocol::json
                                  : element == kBinarySubprotocol ? Subprotocol::binary
                                                                  : Subprotocol::none;
        if (known == Subprotocol::none) fields.subprotocol_unknown = true;
        if (fields.subprotocol == Subprotocol::none) fields.subprotocol = known;
        return is_token(element);
    });
    if (!well_formed || !any) fields.subprotocols_malformed = true;
}

void note_field(HeadFields& fields, std::string_view name, std::string_view value) {
    const auto is = [&](std::string_view wanted) { return equal_ignoring_case(name, wanted); };
    constexpr std::string_view kPrefix = "sec-websocket-";
    if (equal_ignoring_case(name.substr(0, kPrefix.size()), kPrefix)) {
        fields.mentions_websocket = true;
        name.remove_prefix(kPrefix.size());
        if (is("key")) fields.key.set(value);
        if (is("version")) fields.version.set(value);
        if (is("accept")) fields.accept.set(value);
        if (is("protocol")) note_subprotocols(fields, value);
        if (is("extensions")) fields.extensions[fields.extension_lines++] = value;
        return;
    }
    if (is("host")) fields.host.set(value);
    if (is("origin")) fields.origin.set(value);
    // Of any case (RFC 9110 section 11.1); credentials of another scheme are not for this port.
    if (is("authorization") &&
        equal_ignoring_case(value.substr(0, kBearerScheme.size()), kBearerScheme))
        fields.token.set(trim_blanks(value.substr(kBearerScheme.size())));
    if (is("traceparent")) fields.traceparent.set(value);
    if (is("content-length")) fields.content_length.set(value);
    if (is("transfer-encoding")) fields.transfer_encoding = true;
    if (is("upgrade") && lists(value, "websocket")) fields.upgrades_to_websocket = true;
    if (is("connection") && lists(value, "upgrade")) fields.connection_upgrades = true;
}

// field-line = token ":" OWS value OWS. False: one of them is not.
bool read_fields(HeadLines& lines, HeadFields& fields) {
    for (std::string_view line = lines.next(); !line.empty(); line = lines.next()) {
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return false;
        note_field(fields, line.substr(0, colon), trim_blanks(line.substr(colon + 1)));
    }
    return true;
}

struct RequestLine {
    std::string_view method, target;
    uint8_t major = 0, minor = 0;
};

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// "HTTP/1.1" to its digits. False: it is not a version.
bool read_version(std::string_view text, uint8_t& major, uint8_t& minor) {
    if (text.size() != 8 || !text.starts_with("HTTP/") || text[6] != '.') return false;
    if (!is_digit(text[5]) || !is_digit(text[7])) return false;
    major = static_cast<uint8_t>(text[5] - '0');
    minor = static_cast<uint8_t>(text[7] - '0');
    return true;
}

// uri-host [ ":" port ], loosely: nothing that would make it another part of a URI. May be empty.
bool host_valid(std::string_view host) {
    for (const char byte : host)
        if (byte <= ' ' || byte > '~' ||
            std::string_view("/?#@\\,\"<>^`{|}").find(byte) != std::string_view::npos)
            return false;
    return true;
}

// origin-form, absolute-form of http and https (RFC 9112 section 3.2), and for OPTIONS `*`. Leaves
// the path, its query behind it.
Refusal read_target(RequestLine& request) {
    std::string_view& target = request.target;
    if (target == "*" && request.method == "OPTIONS") return {};
    // A scheme's letters are of no case (RFC 9110 section 4.2.3).
    for (const std::string_view scheme : {"http://", "https://"}) {
        if (!equal_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
        target.remove_prefix(scheme.size());
        const size_t end = std::min(target.find_first_of("/?"), target.size());
        if (end == 0 || !host_valid(target.substr(0, end)))
            return {400, "The request target names no host."};
        target.remove_prefix(end);
        if (target.empty()) target = "/";
        if (target.front() == '?') return {};  // an empty path is `/` (section 4.2.3)
        break;
    }
    if (!target.starts_with('/')) return {400, "The request target is not a path."};
    return {};
}

// request-line = method SP request-target SP HTTP-version, one space each.
Refusal read_request_line(std::string_view line, RequestLine& request) {
    const size_t first = line.find(' ');
    const size_t last = line.rfind(' ');
    if (first == std::string_view::npos || last == first)
        return {400, "The request line is not METHOD TARGET HTTP/1.1."};
    request.method = line.substr(0, first);
    request.target = line.substr(first + 1, last - first - 1);
    if (!is_token(request.method)) return {400, "The method is not a token."};
    if (!read_version(line.substr(last + 1), request.major, request.minor))
        return {400, "The request line does not end in an HTTP version."};
    if (request.major != 1) return {505, "This port speaks HTTP/1.1."};
    for (const char byte : request.target)
        if (byte <= ' ' || byte > '~' || byte == '#')
            return {400, "The request target has a character that no target has."};
    if (request.method != "GET" && request.method != "HEAD" && request.method != "OPTIONS")
        return {405, "This port answers GET, HEAD and OPTIONS only."};
    return read_target(request);
}

Refusal judge_message(const RequestLine& request, const HeadFields& fields) {
    if (fields.host.count > 1) return {400, "The request has more than one Host."};
    if (fields.host.count == 0 && request.minor >= 1) return {400, "The request has no Host."};
    if (!host_valid(fields.host.value)) return {400, "Host is not HOST or HOST:PORT."};
    if (fields.transfer_encoding || fields.content_length.count > 1 ||
        (fields.content_length.count == 1 && fields.content_length.value != "0"))
        return {400, "A request to this port has no body."};
    return {};
}

// 24 characters of base64 that stand for 16 bytes.
bool key_valid(std::string_view key) {
    if (key.size() != kKeyBytes || !key.ends_with("==")) return false;
    return std::all_of(key.begin(), key.end() - 2, [](char byte) {
        return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || is_digit(byte) ||
               byte == '+' || byte == '/';
    });
}

bool origin_allowed(std::string_view origin, std::span<const std::string> allowed) {
    return allowed.empty() ||
           std::any_of(allowed.begin(), allowed.end(),
                       [&](const std::string& each) { return equal_ignoring_case(origin, each); });
}

// RFC 6455 section 4.2.1, for a request that has Upgrade: websocket.
Refusal judge_upgrade(const RequestLine& request, const HeadFields& fields,
                      const HandshakePolicy& policy, DeflateAgreement& deflate) {
    if (request.minor == 0) return {505, "WebSocket needs HTTP/1.1."};
    if (!fields.connection_upgrades) return {400, "Connection does not name upgrade."};
    if (fields.version.count > 1) return {400, "Sec-WebSocket-Version comes twice."};
    if (fields.version.value != kVersion)
        return {426, "This port speaks version 13 of WebSocket (RFC 6455)."};
    if (fields.key.count != 1 || !key_valid(fields.key.value))
        return {400, "Sec-WebSocket-Key is not 16 bytes in base64, once."};
    if (fields.subprotocols_malformed)
        return {400, "Sec-WebSocket-Protocol is not a list of tokens."};
    if (fields.extension_lines > 0) {
        deflate = agree_on_deflate({fields.extensions.data(), fields.extension_lines});
        if (deflate.malformed)
            return {400, "Sec-WebSocket-Extensions is not a list of extensions."};
    }
    if (fields.origin.count > 1) return {400, "The request has more than one Origin."};
    if (fields.origin.count == 1 && !origin_allowed(fields.origin.value, policy.origins))
        return {403, "Pages of this origin may not connect here."};
    if (!policy.deflate) deflate = {};
    return {};
}

void write_upgrade(HandshakeAnswer& answer, std::string_view key) {
    const AcceptValue accept = accept_value(key);
    if (accept.text().empty()) {
        answer.result.step = Handshake::Step::ended;
        answer.result.status = 503;
        answer.result.outcome = {CloseReason::out_of_memory, "no memory for the accept value"};
        write_http_answer(answer.bytes, 503, "This server is out of memory.");
        return;
    }
    HttpBytes& bytes = answer.bytes;
    bytes.append(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: ");
    bytes.append(accept.text());
    if (answer.result.subprotocol != Subprotocol::none) {
        bytes.append("\r\nSec-WebSocket-Protocol: ");
        bytes.append(subprotocol_name(answer.result.subprotocol));
    }
    const DeflateAgreement& deflate = answer.result.deflate;
    if (deflate.window_bits != 0) {
        bytes.append("\r\nSec-WebSocket-Extensions: ");
        bytes.append(kDeflateOffer);  // what a client offers for it is what a server answers
        if (deflate.window_bits_named) {
            bytes.append("; server_max_window_bits=");
            bytes.append_number(deflate.window_bits);
        }
    }
    bytes.append("\r\n\r\n");
    answer.result.step = Handshake::Step::upgraded;
    answer.result.status = 101;
}

// For a request that asks for no upgrade: what people and balancers that check our health send.
Refusal answer_plain(const RequestLine& request, const HeadFields& fields, bool ready) {
    const std::string_view path = request.target.substr(0, request.target.find('?'));
    const bool asks_health = path == kHealthPath || path.empty() || path == "/";
    if (!ready && (asks_health || request.method == "OPTIONS")) return {503, kGoingAway};
    if (request.method == "OPTIONS") return {200, kWhatThisIs};
    if (fields.mentions_websocket) return {426, kUpgradeRequired};
    if (path == kHealthPath) return {200, "ok: this server accepts connections"};
    if (asks_health) return {200, kWhatThisIs};
    return {426, kUpgradeRequired};
}

// RFC 6750 section 3.1, and RFC 6585 section 4.
uint16_t token_status(AuthFailure failure) {
    switch (failure) {
        case AuthFailure::several_tokens:
            return 400;
        case AuthFailure::too_many_failures:
            return 429;
        default:
            return 401;
    }
}

CloseReason close_reason_for(uint16_t status) {
    switch (status) {
        case 200:
            return CloseReason::http_answered;
        case 401:
        case 403:
        case 429:
            return CloseReason::unauthorized;
        default:
            return CloseReason::protocol_error;
    }
}

void end_with(HandshakeAnswer& answer, Refusal refusal, CloseReason reason, bool head_only) {
    answer.result.step = Handshake::Step::ended;
    answer.result.status = refusal.status;
    answer.result.outcome = {reason, refusal.detail};
    write_http_answer(answer.bytes, refusal.status, refusal.detail, head_only);
}

void refuse_token(HandshakeAnswer& answer, AuthFailure failure) {
    answer.result.step = Handshake::Step::ended;
    answer.result.status = token_status(failure);
    answer.result.outcome = {CloseReason::unauthorized, describe(failure).sentence};
    write_token_refusal(answer.bytes, failure);
}

}  // namespace

void HttpBytes::append(std::string_view text) {
    PULSE_ASSERT(text.size() <= chars.size() - count);
    std::copy(text.begin(), text.end(), chars.begin() + static_cast<ptrdiff_t>(count));
    count += text.size();
}

void HttpBytes::append_number(uint64_t number) {
    std::array<char, 20> digits;
    size_t at = digits.size();
    do {
        digits[--at] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number > 0);
    append({digits.data() + at, digits.size() - at});
}

AcceptValue accept_value(std::string_view key) {
    AcceptValue accept;
    std::array<char, kKeyBytes + kGuid.size()> text;
    PULSE_ASSERT(key.size() == kKeyBytes);
    std::copy(kGuid.begin(), kGuid.end(), std::copy(key.begin(), key.end(), text.begin()));
    std::array<uint8_t, 20> digest;
    SHA_CTX sha1;
    if (SHA1_Init(&sha1) != 1 || SHA1_Update(&sha1, text.data(), text.size()) != 1 ||
        SHA1_Final(digest.data(), &sha1) != 1)
        return accept;
    EVP_EncodeBlock(reinterpret_cast<uint8_t*>(accept.chars.data()), digest.data(), digest.size());
    return accept;
}

namespace {

// So many bytes from the front are what a line may hold anywhere but at its beginning; less than
// eight of them at the end are not counted.
size_t text_bytes(std::span<const uint8_t> input) {
    constexpr uint64_t kOnes = 0x0101010101010101;
    constexpr uint64_t kTops = kOnes << 7;
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= input.size(); at += sizeof(uint64_t)) {
        uint64_t eight;
        std::memcpy(&eight, input.data() + at, sizeof eight);
        const uint64_t deletes = eight ^ kOnes * 0x7F;
        const uint64_t others =
            (((eight - kOnes * ' ') & ~eight) | ((deletes - kOnes) & ~deletes)) & kTops;
        if (others == 0) continue;
        // The lowest bit that is set is exact, those above it may be borrows.
        if (std::endian::native == std::endian::little)
            at += static_cast<size_t>(std::countr_zero(others)) / 8;
        break;
    }
    return at;
}

}  // namespace

HeadScan scan_head(HandshakeState& state, std::span<const uint8_t> input) {
    size_t at = 0;
    const auto refuse = [&](uint16_t status, std::string_view detail) {
        return HeadScan{HeadScan::Step::refused, at, status, detail};
    };
    for (; at < input.size(); ++at) {
        if (state.in_line && !state.after_cr) {
            const size_t room = kHandshakeBytesMax - state.bytes;
            const size_t text = text_bytes(input.subspan(at, std::min(input.size() - at, room)));
            at += text;
            state.bytes = static_cast<uint16_t>(state.bytes + text);
            if (at == input.size()) break;
        }
        const uint8_t byte = input[at];
        if (state.bytes == kHandshakeBytesMax)
            return refuse(431, "The request line and headers are over 16384 bytes.");
        ++state.bytes;
        if (state.after_cr != (byte == '\n')) return refuse(400, "A line does not end in CR LF.");
        state.after_cr = byte == '\r';
        if (byte == '\r') continue;
        if (byte == '\n') {
            if (!state.in_line && state.lines > 0) return {HeadScan::Step::whole, at + 1, 0, {}};
            state.lines += state.in_line;
            state.in_line = false;
            continue;
        }
        if ((byte < ' ' && byte != '\t') || byte == 0x7F)
            return refuse(400, "The head has a control character.");
        if (state.in_line) continue;
        if (byte == ' ' || byte == '\t')
            return refuse(400, "A line is folded or starts with a blank.");
        if (state.lines > kHandshakeFieldsMax)
            return refuse(431, "The request has over 64 header lines.");
        state.in_line = true;
    }
    return {};
}

namespace {

// The status line, and what says what the text is.
void begin_answer(HttpBytes& bytes, uint16_t status, std::string_view detail) {
    bytes.append("HTTP/1.1 ");
    bytes.append_number(status);
    bytes.append(" ");
    bytes.append(status_text(status));
    bytes.append("\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    bytes.append_number(detail.size() + 1);
}

}  // namespace

void write_token_refusal(HttpBytes& bytes, AuthFailure failure) {
    const AuthFailureInfo& info = describe(failure);
    const uint16_t status = token_status(failure);
    begin_answer(bytes, status, info.sentence);
    bytes.append("\r\nConnection: close");
    if (status == 429) {
        bytes.append("\r\nRetry-After: 1");
    } else if (failure == AuthFailure::no_token) {
        bytes.append("\r\nWWW-Authenticate: Bearer");  // and no error (RFC 6750 section 3.1)
    } else {
        bytes.append("\r\nWWW-Authenticate: Bearer error=\"");
        bytes.append(status == 401 ? "invalid_token" : "invalid_request");
        bytes.append("\", error_description=\"");
        bytes.append(info.word);
        bytes.append(": ");
        bytes.append(info.sentence);
        bytes.append("\"");
    }
    bytes.append("\r\n\r\n");
    bytes.append(info.sentence);
    bytes.append("\n");
}

void write_http_answer(HttpBytes& bytes, uint16_t status, std::string_view detail, bool head_only,
                       uint32_t retry_after_s) {
    begin_answer(bytes, status, detail);
    // An answer that names a protocol to upgrade to must name upgrade (RFC 9110 section 7.8).
    bytes.append(status == 426 ? "\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
                                 "Sec-WebSocket-Version: 13"
                               : "\r\nConnection: close");
    // Also the answer to OPTIONS (RFC 9110 section 9.3.7).
    if (status == 405 || status == 200) bytes.append("\r\nAllow: GET, HEAD, OPTIONS");
    if (retry_after_s != 0) {
        bytes.append("\r\nRetry-After: ");
        bytes.append_number(retry_after_s);
    }
    bytes.append("\r\n\r\n");
    if (head_only) return;
    bytes.append(detail);
    bytes.append("\n");
}

void answer_request(std::string_view head, const HandshakePolicy& policy, HandshakeAnswer& answer) {
    HeadLines lines(head);
    RequestLine request;
    HeadFields fields;
    Refusal refusal = read_request_line(lines.next(), request);
    const bool head_only = request.method == "HEAD";
    if (refusal.none() && !read_fields(lines, fields))
        refusal = {400, "A header line is not NAME: VALUE."};
    if (refusal.none()) refusal = judge_message(request, fields);
    if (refusal.none() && !(fields.upgrades_to_websocket && request.method == "GET")) {
        refusal = answer_plain(request, fields, policy.ready);
        return end_with(answer, refusal, CloseReason::http_answered, head_only);
    }
    if (refusal.none()) refusal = judge_upgrade(request, fields, policy, answer.result.deflate);
    if (!refusal.none())
        return end_with(answer, refusal, close_reason_for(refusal.status), head_only);
    if (policy.tokens != nullptr && fields.token.count > 0) {
        const AuthFailure failure = policy.tokens->judge(fields.token.value, fields.token.count);
        if (failure != AuthFailure::none) return refuse_token(answer, failure);
    }
    // Of several none is right (W3C Trace Context, section 3.2).
    if (policy.reads_trace && fields.traceparent.count == 1)
        answer.result.trace = parse_traceparent(fields.traceparent.value).value_or(TraceContext{});
    answer.result.subprotocol = fields.subprotocol;
    write_upgrade(answer, fields.key.value);
}

// -------------------------------------------------------------------------------------- the client
namespace {

std::array<char, kKeyBytes + 1> key_of(const HandshakeNonce& nonce) {
    std::array<char, kKeyBytes + 1> key{};
    EVP_EncodeBlock(reinterpret_cast<uint8_t*>(key.data()), nonce.data(),
                    static_cast<int>(nonce.size()));
    return key;
}

// Section 4.1, "Once the client's opening handshake has been sent"; empty: nothing is wrong.
std::string_view wrong_with_answer(const HeadFields& fields, const UpgradeRequest& request,
                                   Handshake& result) {
    if (!fields.upgrades_to_websocket) return "the answer has no Upgrade: websocket";
    if (!fields.connection_upgrades) return "the answer has no Connection: Upgrade";
    const std::array<char, kKeyBytes + 1> key = key_of(request.nonce);
    const AcceptValue accept = accept_value({key.data(), kKeyBytes});
    if (fields.accept.count != 1 || fields.accept.value != accept.text())
        return "the answer has the wrong Sec-WebSocket-Accept";
    if (fields.subprotocols_malformed || fields.subprotocol_lines > 1 ||
        fields.subprotocol_unknown ||
        (fields.subprotocol_lines == 1 && fields.subprotocol != request.subprotocol))
        return "the answer has a subprotocol that was not asked for";
    result.subprotocol = fields.subprotocol;
    if (fields.extension_lines == 0) return {};
    result.deflate = check_deflate_answer({fields.extensions.data(), fields.extension_lines});
    if (result.deflate.malformed || !request.deflate)
        return "the answer has an extension that was not offered";
    return {};
}

}  // namespace

bool format_upgrade_request(const UpgradeRequest& request, HttpBytes& bytes) {
    if (request.host.size() + request.path.size() + request.origin.size() > kRequestPartsMax)
        return false;
    bytes.append("GET ");
    bytes.append(request.path);
    bytes.append(" HTTP/1.1\r\nHost: ");
    bytes.append(request.host);
    bytes.append(
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: ");
    bytes.append({key_of(request.nonce).data(), kKeyBytes});
    if (!request.origin.empty()) {
        bytes.append("\r\nOrigin: ");
        bytes.append(request.origin);
    }
    if (request.subprotocol != Subprotocol::none) {
        bytes.append("\r\nSec-WebSocket-Protocol: ");
        bytes.append(subprotocol_name(request.subprotocol));
    }
    if (request.deflate) {
        bytes.append("\r\nSec-WebSocket-Extensions: ");
        bytes.append(kDeflateOffer);
    }
    bytes.append("\r\n\r\n");
    return true;
}

Handshake check_answer(std::string_view head, const UpgradeRequest& request) {
    HeadLines lines(head);
    HeadFields fields;
    Handshake result;
    result.step = Handshake::Step::ended;
    result.outcome = {CloseReason::protocol_error, "the answer is not HTTP/1.1"};
    // status-line = HTTP-version SP 3DIGIT SP [ reason ]; many leave the last space out.
    const std::string_view line = lines.next();
    uint8_t major = 0;
    uint8_t minor = 0;
    if (line.size() < 12 || !read_version(line.substr(0, 8), major, minor) || major != 1 ||
        line[8] != ' ' || !std::all_of(line.begin() + 9, line.begin() + 12, is_digit) ||
        (line.size() > 12 && line[12] != ' '))
        return result;
    result.status =
        static_cast<uint16_t>((line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0');
    if (result.status != 101) {
        result.outcome.detail = "the server did not upgrade";
        return result;
    }
    if (!read_fields(lines, fields)) {
        result.outcome.detail = "the answer has a header line that is not NAME: VALUE";
        return result;
    }
    result.outcome.detail = wrong_with_answer(fields, request, result);
    if (!result.outcome.detail.empty()) return result;
    result.outcome = {};
    result.step = Handshake::Step::upgraded;
    return result;
}

}  // namespace pulse
