// cpp-httplib decodes targets and writes responses, over a stream that is a string: its own sockets
// have a thread each, so that a few idle clients would keep all others out.
#include "net/control/control.h"

#include <httplib.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <utility>
#include <variant>

#include "net/control/http_front.h"
#include "net/control/limits.h"
#include "net/control/routes.h"
#include "net/io/address.h"

namespace pulse {
namespace {

// A request that is whole, and the response to it.
class TextStream final : public httplib::Stream {
  public:
    explicit TextStream(std::string request) : request_(std::move(request)), left_(request_) {}
    bool is_readable() const override { return !left_.empty(); }
    bool is_writable() const override { return true; }
    ssize_t read(char* to, size_t bytes) override {
        const size_t taken = left_.copy(to, bytes);
        left_.remove_prefix(taken);
        return static_cast<ssize_t>(taken);
    }
    ssize_t write(const char* from, size_t bytes) override {
        written.append(from, bytes);
        return static_cast<ssize_t>(bytes);
    }
    void get_remote_ip_and_port(std::string&, int&) const override {}
    void get_local_ip_and_port(std::string&, int&) const override {}
    socket_t socket() const override { return -1; }

    std::string written;

  private:
    const std::string request_;
    std::string_view left_;
};

// Only the headers that this endpoint serves: no Range, which multiplies an answer, and whose
// regular expression recurses for each byte; no Expect, which the front answers.
std::string head_for_parser(const HttpHead& head) {
    std::string text;
    for (const std::string_view part : {head.method, head.target, head.version})
        text.append(text.empty() ? "" : " ").append(part);
    text += "\r\n";
    constexpr std::pair<std::string_view, std::string_view> kServed[] = {
        {"connection", "Connection"}, {"accept-encoding", "Accept-Encoding"}};
    for (const auto& [name, written] : kServed)
        if (const auto value = head.header(name))
            text.append(written).append(": ").append(*value).append("\r\n");
    return text + "\r\n";
}

// Server::process_request is for those that bring a stream of their own. It is given a head of
// this endpoint's own words, and its routes, which are matched by std::regex, are not used.
class Parser final : public httplib::Server {
  public:
    // The whole response, and whether the connection is to be closed after it.
    HttpAnswer respond(const HttpHead& head) {
        TextStream stream(head_for_parser(head));
        HttpAnswer answer;
        bool closed = false;
        const bool went_on = process_request(stream, false, closed, nullptr);
        answer.bytes = std::move(stream.written);
        answer.close = closed || !went_on;
        return answer;
    }
};

// In time that depends on the lengths alone.
bool same(std::string_view given, std::string_view token) {
    uint8_t different = given.size() != token.size();
    for (size_t at = 0; at < given.size(); ++at)
        different |= static_cast<uint8_t>(given[at] ^ token[at % token.size()]);
    return different == 0;
}

// Names of this machine's loopback: an IP address, or localhost. A page of another site reaches
// this endpoint under a name of that site, if its DNS says so.
bool is_host_here(std::string_view host) {
    if (host.empty()) return true;
    if (host.starts_with('[')) return host.find(']') != std::string_view::npos;
    host = host.substr(0, host.find(':'));
    if (host == "localhost") return true;
    return bool{parse_prefix(host)};
}

// What stands in `path` where the pattern of a route has {id}, or {name}, in which a slash may be,
// or nothing, which is empty; nullopt where it is another path.
std::optional<std::string_view> match_path(std::string_view pattern, std::string_view path) {
    const size_t at = pattern.find('{');
    if (at == std::string_view::npos)
        return path == pattern ? std::optional(std::string_view()) : std::nullopt;
    const size_t end = pattern.find('}', at) + 1;
    const bool one_part = pattern.substr(at, end - at) == "{id}";
    const std::string_view before = pattern.substr(0, at);
    const std::string_view behind = pattern.substr(end);
    if (path.size() <= before.size() + behind.size() || !path.starts_with(before) ||
        !path.ends_with(behind)) {
        return std::nullopt;
    }
    const std::string_view id =
        path.substr(before.size(), path.size() - before.size() - behind.size());
    const bool is_it = !one_part || id.find('/') == std::string_view::npos;
    return is_it ? std::optional(id) : std::nullopt;
}

// A response to HEAD is that to GET without its body, which httplib leaves out.
bool has_method(const Route& route, std::string_view method) {
    return route.method == (method == "HEAD" ? "GET" : method);
}

}  // namespace

struct Control::Parts {
    Parts(AdminListener own, std::vector<std::string> allowed, ControlTarget& target)
        : listener(std::move(own)), tokens(std::move(allowed)), routes(target) {}

    void set_handlers();
    Reply reply_to(const httplib::Request& request);
    Reply answer(const Route& route, std::string_view id, const httplib::Request& request);
    std::optional<Reply> refusal(const Route& route) const;
    HttpAnswer respond(HttpCall& call);

    AdminListener listener;
    const std::vector<std::string> tokens;
    Routes routes;
    Parser parser;
    std::unique_ptr<HttpFront> front;
};

namespace {

// The call that the thread answers, and what follows its answer: handlers of httplib are given no
// more than the request.
thread_local HttpCall* call_of_thread = nullptr;
thread_local std::shared_ptr<HttpStream> stream_of_thread;

void write(const Reply& reply, httplib::Response& response) {
    response.status = reply.status;
    if (!reply.allow.empty()) response.set_header("Allow", reply.allow);
    if (reply.status == 401) response.set_header("WWW-Authenticate", "Bearer");
    bool may_be_kept = false;
    for (const auto& [name, value] : reply.headers) {
        may_be_kept |= name == "Cache-Control";
        response.set_header(name, value);
    }
    if (!may_be_kept) response.set_header("Cache-Control", "no-store");
    response.set_content(reply.body, reply.type);
}

// A whole response without httplib, after which the connection is closed.
std::string response_text(const Reply& reply) {
    return "HTTP/1.1 " + std::to_string(reply.status) + " Refused\r\nConnection: close\r\n" +
           "Content-Type: application/json\r\nContent-Length: " +
           std::to_string(reply.body.size()) + "\r\n\r\n" + reply.body;
}

// 304 has no body, and a length in it would be that of what it stands for (RFC 9110 8.6).
void drop_length(std::string& response) {
    constexpr std::string_view kField = "\r\nContent-Length: 0";
    const size_t at = response.find(kField);
    if (at != std::string::npos) response.erase(at, kField.size());
}

// To a path or a method that the table does not have.
Reply reply_to_unknown(const httplib::Request& request) {
    std::string methods;
    for (const Route& route : Routes::table()) {
        if (!match_path(route.path, request.path)) continue;
        methods.append(methods.empty() ? "" : ", ").append(route.method);
    }
    if (methods.empty())
        return error_reply(404, request.path, "is not a path of this server",
                           "GET /api/v1 lists all");
    Reply reply = error_reply(405, request.path, "has no " + request.method, "use " + methods);
    reply.allow = methods;
    return reply;
}

// The object of a body, or why it is not one.
std::variant<Json, Reply> parse_body(const std::string& body) {
    bool too_deep = false;
    const auto keep = [&](int depth, Json::parse_event_t, Json&) {
        too_deep |= depth > kAdminJsonDepthMax;
        return depth <= kAdminJsonDepthMax;
    };
    Json object = Json::parse(body.empty() ? "{}" : body, keep, false);
    if (too_deep) {
        return error_reply(
            400, "body",
            "has more than " + std::to_string(kAdminJsonDepthMax) + " lists within each other",
            "write an object of strings, numbers and lists of them");
    }
    if (!object.is_object()) {
        return error_reply(400, "body", "is not a JSON object",
                           "write one, such as {\"all\": true}");
    }
    return object;
}

}  // namespace

void Control::Parts::set_handlers() {
    parser.set_pre_routing_handler(
        [this](const httplib::Request& request, httplib::Response& response) {
            Reply reply = reply_to(request);
            write(reply, response);
            if (reply.stream != nullptr && request.method == "HEAD") reply.stream->end();
            if (request.method != "HEAD") stream_of_thread = std::move(reply.stream);
            return httplib::Server::HandlerResponse::Handled;
        });
    // To what httplib refuses by itself.
    const httplib::Server::Handler handler = [](const httplib::Request&,
                                                httplib::Response& response) {
        if (!response.body.empty()) return;
        write(error_reply(response.status, "request", "is not one that is understood",
                          "GET /api/v1 lists what can be asked"),
              response);
    };
    parser.set_error_handler(handler);
    // Of what is thrown where memory is short; the server lives on.
    parser.set_exception_handler(
        [](const httplib::Request& request, httplib::Response& response, std::exception_ptr) {
            write(error_reply(500, request.path, "could not be answered", "try again"), response);
        });
}

Reply Control::Parts::reply_to(const httplib::Request& request) {
    for (const Route& route : Routes::table()) {
        if (!has_method(route, request.method)) continue;
        if (const auto id = match_path(route.path, request.path))
            return answer(route, *id, request);
    }
    return reply_to_unknown(request);
}

// Whether the client may ask at all.
std::optional<Reply> Control::Parts::refusal(const Route& route) const {
    const HttpHead& head = call_of_thread->head;
    if (tokens.empty()) {
        if (is_host_here(head.header("host").value_or(""))) return std::nullopt;
        return error_reply(403, "Host", "is a name, and this endpoint has no token",
                           "use an address or localhost, or start it with --admin-token-file");
    }
    if (route.access == Access::open) return std::nullopt;
    constexpr std::string_view kBearer = "Bearer ";
    const std::string_view given = head.header("authorization").value_or("");
    bool known = false;
    if (given.starts_with(kBearer))
        for (const std::string& token : tokens) known |= same(given.substr(kBearer.size()), token);
    if (known) return std::nullopt;
    return error_reply(401, "Authorization",
                       given.empty() ? "is missing" : "is not a token of this server",
                       "send 'Authorization: Bearer TOKEN' with one of --admin-token-file");
}

Reply Control::Parts::answer(const Route& route, std::string_view id,
                             const httplib::Request& request) {
    if (std::optional<Reply> refused = refusal(route)) return *std::move(refused);
    const HttpCall& call = *call_of_thread;
    Ask ask;
    ask.id = id;
    ask.query = request.params;
    ask.path = request.path;
    ask.last_event_id = call.head.header("last-event-id").value_or("");
    ask.if_none_match = call.head.header("if-none-match").value_or("");
    ask.gone = [&call] { return call.gone.load(); };
    if (route.method == "POST") {
        if (!call.head.header("content-type").value_or("").starts_with("application/json")) {
            return error_reply(415, "Content-Type", "is not application/json",
                               "send the body as application/json");
        }
        if (call.head.header("content-encoding").value_or("identity") != "identity") {
            return error_reply(415, "Content-Encoding", "is not read by this endpoint",
                               "send the body as it is");
        }
        std::variant<Json, Reply> body = parse_body(call.body);
        if (const Reply* refused = std::get_if<Reply>(&body)) return *refused;
        ask.body = std::get<Json>(std::move(body));
    }
    return routes.answer(route, ask);
}

HttpAnswer Control::Parts::respond(HttpCall& call) {
    if (const auto left = std::exchange(stream_of_thread, nullptr)) left->end();  // it has thrown
    call_of_thread = &call;
    HttpAnswer answer = parser.respond(call.head);
    call_of_thread = nullptr;
    if (std::shared_ptr<HttpStream> stream = std::exchange(stream_of_thread, nullptr)) {
        // Until the connection ends: no length.
        return {
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            "Connection: close\r\n\r\n",
            true, std::move(stream)};
    }
    if (answer.bytes.starts_with("HTTP/1.1 304 ")) drop_length(answer.bytes);
    // Of the bytes that are sent: what httplib makes of a body may be longer than the body.
    if (answer.bytes.size() <= kAdminAnswerBytesMax) return answer;
    return {response_text(error_reply(500, call.head.path(), "has an answer that is too long",
                                      "ask for less at once")),
            true};
}

Control::Control(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Control::~Control() { parts_->front.reset(); }

Result<std::unique_ptr<Control>> Control::start(AdminListener listener,
                                                std::vector<std::string> tokens,
                                                ControlTarget& target) {
    auto parts = std::make_unique<Parts>(std::move(listener), std::move(tokens), target);
    parts->set_handlers();
    HttpFront::Answerer answerer;
    answerer.answer = [&own = *parts](HttpCall& call) { return own.respond(call); };
    answerer.is_quick = [](const HttpHead& head) {
        return std::ranges::any_of(Routes::table(), [&](const Route& route) {
            return !route.waits && has_method(route, head.method) && route.path == head.path();
        });
    };
    answerer.refusal = [](int status, std::string_view reason, std::string_view remedy) {
        return response_text(error_reply(status, "request", reason, remedy));
    };
    answerer.failed = [&target](std::string_view why) {
        target.warn(std::string("a client was closed: ").append(why));
    };
    Result<std::unique_ptr<HttpFront>> front =
        HttpFront::start(parts->listener.take(), std::move(answerer));
    if (!front) return Error{front.error()};
    parts->front = std::move(*front);
    return std::unique_ptr<Control>(new Control(std::move(parts)));
}

size_t Control::memory_bytes_max() {
    return kAdminConnectionsMax *
               (kAdminHeadBytesMax + kAdminBodyBytesMax + kAdminReadBytes + kAdminAnswerBytesMax) +
           kAdminWorkers * kChosenMax * sizeof(ConnectionRef) + PresenceHub::memory_bytes_max() +
           StatusHub::memory_bytes_max();
}

Result<std::vector<std::string>> read_admin_tokens(const std::string& path) {
    std::ifstream file(path);
    if (!file) return Error{pulse::quoted(path) + " cannot be read; name a file that can"};
    std::vector<std::string> tokens;
    size_t number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
        if (line.empty() || line.starts_with('#')) continue;
        const std::string where = pulse::quoted(path) + " line " + std::to_string(number);
        const bool plain = std::ranges::all_of(line, [](char c) { return c > ' ' && c <= '~'; });
        if (!plain) {
            return Error{where + " holds what a header cannot carry; write letters and digits"};
        }
        if (line.size() < kAdminTokenBytesMin) {
            return Error{where + " is a token of fewer than " +
                         std::to_string(kAdminTokenBytesMin) + " characters; write a longer one"};
        }
        tokens.push_back(line);
    }
    if (tokens.empty() || tokens.size() > kAdminTokensMax) {
        return Error{pulse::quoted(path) + " holds " + std::to_string(tokens.size()) +
                     " tokens; write 1 to " + std::to_string(kAdminTokensMax) + ", a line each"};
    }
    return tokens;
}

Result<void> check_admin_access(const AdminAddress& address, bool has_tokens) {
    if (has_tokens || address.is_local()) return {};
    return Error{pulse::quoted(address.text) +
                 " can be reached from other machines, and any of them could stop the server; give "
                 "--admin-token-file, or listen on 127.0.0.1 or unix:PATH"};
}

}  // namespace pulse
